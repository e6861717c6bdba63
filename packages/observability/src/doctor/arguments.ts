import { parseArgs } from 'node:util'

/** What the command was asked for. */
export interface Arguments {
  readonly file: string | undefined
  readonly json: boolean
  readonly sentry: boolean
  readonly timeoutMs: number
}

export const USAGE = `Usage: fastify-observability doctor [file] [options]

Says what is wrong with how a service is observed, and what mends it. With a file it loads the service: the file exports
the app, or a function that builds it, as default, "app", "build", "buildApp" or "createApp". Without one it looks at the
environment and at what is installed.

  --json             findings as JSON, for tools
  --sentry           send a test event to Sentry, which makes an issue there
  --timeout SECONDS  for the service to start, from 1 to 40 (20)
  --help, --version

Exit code: 0 fine, 1 something is wrong, 2 bad usage.
`

const MOST_SECONDS = 40
const COMMAND = 'doctor'

/** @throws for what the usage does not have, with one sentence. */
export function parseArguments(args: readonly string[]): Arguments | 'help' | 'version' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      sentry: { type: 'boolean', default: false },
      timeout: { type: 'string', default: '20' },
      help: { type: 'boolean', short: 'h', default: false },
      version: { type: 'boolean', short: 'v', default: false }
    }
  })
  if (values.help) return 'help'
  if (values.version) return 'version'
  const [command, file, ...more] = positionals
  if (command !== COMMAND)
    throw new Error(command === undefined ? 'a command is missing' : `unknown command "${command}"`)
  if (more.length > 0) throw new Error('one file at most')
  const seconds = Number(values.timeout)
  if (!(seconds >= 1 && seconds <= MOST_SECONDS)) throw new Error(`--timeout must be from 1 to ${MOST_SECONDS}`)
  return { file, json: values.json, sentry: values.sentry, timeoutMs: 1_000 * seconds }
}
