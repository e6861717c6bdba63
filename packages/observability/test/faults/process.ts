import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'

/** What the service itself counts. */
export interface Counts {
  /** Requests that have ended, however: all that Node's server has parsed, without probes and scrapes. */
  ended: number
  /** Spans that the handlers have begun. */
  spans: number
  /** Errors that the handlers have thrown for a 500. */
  thrown: number
}

/** What the service says of itself when it ends. */
export interface Report extends Counts {
  atCrash?: Counts
  uncaught: string[]
  warnings: string[]
  /** The suite's counters. */
  series: { name: string; label: string; value: number }[]
}

/** The service in a process of its own. */
export interface Service {
  child: ChildProcess
  stdout: Readable
  origin: string
  /** The lines of its standard output. */
  lines: string[]
  /** Resolves when there is more on standard output. */
  read(): Promise<unknown>
  /** What came on standard error. */
  said: string[]
  /** Resolves when the process has ended and everything that it wrote has been read. */
  ended: Promise<Ending>
}

export interface Ending {
  code: number | null
  signal: NodeJS.Signals | null
  /** None of a process that was killed. */
  report: Report | undefined
}

const SCRIPT = fileURLToPath(new URL('service.ts', import.meta.url))

export async function startService(env: NodeJS.ProcessEnv, args: string[], uid?: number): Promise<Service> {
  // Standard input ends with this process, and so does the service then.
  const stdio = ['pipe', 'pipe', 'pipe', 'pipe'] as const
  const child = spawn(process.execPath, [...args, SCRIPT], {
    env,
    stdio: [...stdio],
    ...(uid !== undefined && { uid })
  })
  const [, stdout, stderr, reports] = child.stdio as unknown as [Writable, Readable, Readable, Readable]
  const lines: string[] = []
  const said: string[] = []
  let rest = ''
  stdout.setEncoding('utf8').on('data', (text: string) => {
    const all = (rest + text).split('\n')
    rest = all.pop() ?? ''
    lines.push(...all)
  })
  createInterface(stderr).on('line', (line) => said.push(line))
  const messages = createInterface(reports)
  let report: Report | undefined
  const ended = once(child, 'close').then(([code, signal]) => {
    if (rest !== '') lines.push(rest)
    return { code, signal, report }
  })
  const first = await Promise.race([once(messages, 'line'), ended])
  if (!Array.isArray(first)) throw new Error(`the service did not start: ${said.join('\n')}`)
  messages.on('line', (line) => {
    report = JSON.parse(line)
  })
  const { origin }: { origin: string } = JSON.parse(first[0])
  return { child, stdout, origin, lines, read: () => once(stdout, 'data'), said, ended }
}
