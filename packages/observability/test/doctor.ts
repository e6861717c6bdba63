import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { Finding } from '../src/doctor/finding.ts'

/** Of a folder, by name: what is in a file, or the files of a folder in it. */
export interface Files {
  [name: string]: string | Files
}

export interface Diagnosis {
  code: number
  output: string
  complaint: string
  findings: Finding[]
}

const COMMAND = fileURLToPath(new URL('../src/doctor/command.ts', import.meta.url))
// Without the cache each of them would compile the suite anew.
const { PATH = '', NODE_COMPILE_CACHE } = process.env
/** What a service's file imports, from wherever it is. */
export const SUITE = new URL('../src/index.ts', import.meta.url).href
export const FASTIFY = import.meta.resolve('fastify')

/** A folder with a service, or only with what its package.json has. */
export function folderOf(t: Test, files: Files = {}, manifest: object = {}): string {
  return t.testdir({ 'package.json': JSON.stringify({ name: 'orders', version: '1.4.0', ...manifest }), ...files })
}

/** A file that builds an app with the suite, and with what is given in its place. */
export function serviceOf({ before = '', options = '{}', suite = '{}', after = '' } = {}): string {
  return `${before}
    import Fastify from ${JSON.stringify(FASTIFY)}
    import observability from ${JSON.stringify(SUITE)}
    const app = Fastify(${options})
    await app.register(observability, ${suite})
    ${after}
    export default app`
}

/** Runs the command as a user does, with nothing but these variables. */
export async function runCommand(args: string[], cwd: string, env: NodeJS.ProcessEnv = {}): Promise<Diagnosis> {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    cwd,
    env: { PATH, NODE_COMPILE_CACHE, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const [output, complaint, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const findings = args.includes('--json') && output !== '' ? JSON.parse(output).findings : []
  return { code, output, complaint, findings }
}

/** Its findings for a folder, or for a file in it. */
export function diagnose(cwd: string, env: NodeJS.ProcessEnv = {}, ...args: string[]): Promise<Diagnosis> {
  // On a busy machine a start takes long.
  return runCommand(['doctor', '--json', '--timeout', '40', ...args], cwd, env)
}

/** The names of what is wrong, or may be. */
export function faultsIn({ findings }: Diagnosis, state: Finding['state'] = 'wrong'): unknown[] {
  return findings.filter((finding) => finding.state === state).map(({ fault }) => fault)
}
