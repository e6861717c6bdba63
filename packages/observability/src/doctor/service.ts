import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Account, Message, Obstacle, Stage } from './account.ts'

/** What became of a service that was loaded, started and closed. */
export interface Visit {
  readonly account: Account | undefined
  readonly obstacle: { readonly fault: Obstacle; readonly text: string } | undefined
  /** How far it had come when its time was up; `undefined`: its time was not up. */
  readonly late: 'loading' | Stage | undefined
  /** Why its process ended by itself. */
  readonly end: string | undefined
  /** Resolves when the process has ended. */
  readonly after: Promise<Aftermath>
}

/** What is known once the process of a service has ended. */
export interface Aftermath {
  /** Whether it ended by itself, soon after the service was closed. */
  readonly hasEnded: boolean
  /** What the suite logged as warnings and errors. */
  readonly warnings: readonly string[]
}

export interface VisitOptions {
  /** `undefined`: a service that has the environment, and nothing else. */
  file: string | undefined
  flags: readonly string[]
  /** For import and start together. */
  timeoutMs: number
}

const CLOSE_MS = 10_000
const MAX_OUTPUT = 1024 * 1024
const SUITE_LINE = /^(?:@?fastify-observability\b|(?:tracing|logging|metrics|sentry|health|profiling): |\w+ must be )/
const WARN = 40
const LEVELS = new Set(['warn', 'error', 'fatal'])

/** Loads a service in a process of its own: what it does to that one, and how long it takes, is no harm here. */
export async function visit({ file, flags, timeoutMs }: VisitOptions): Promise<Visit> {
  const path = fileURLToPath(new URL(`../doctor/inspection${extname(import.meta.url)}`, import.meta.url))
  const child = fork(path, file === undefined ? [] : [file], {
    execArgv: [...process.execArgv, ...flags],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc']
  })
  const output = outputOf(child)
  const ended = once(child, 'close').then(
    () => true,
    () => true
  )
  const visited = await listen(child, timeoutMs)
  // A process of the service's own may hold its output open.
  const endedInTime = Promise.race([ended, wait(CLOSE_MS, false, { ref: false })])
  async function after(): Promise<Aftermath> {
    const hasEnded = await endedInTime
    child.kill('SIGKILL')
    return { hasEnded, warnings: warningsIn(output()) }
  }
  // With an account it still closes what it has opened.
  if (!visited.account) await endedInTime
  const end = visited.end && [visited.end, lastWords(output())].filter(Boolean).join(': ')
  return { ...visited, end, after: after() }
}

type Heard = Pick<Visit, 'account' | 'obstacle' | 'late' | 'end'>

/** Resolves with the account, or with why there is none. */
function listen(child: ChildProcess, timeoutMs: number): Promise<Heard> {
  const { promise, resolve } = Promise.withResolvers<Heard>()
  const nothing: Heard = { account: undefined, obstacle: undefined, late: undefined, end: undefined }
  let stage: 'loading' | Stage = 'loading'
  const timer = setTimeout(() => {
    child.kill('SIGKILL')
    resolve({ ...nothing, late: stage })
  }, timeoutMs)
  child.on('message', (message: Message) => {
    if ('stage' in message) stage = message.stage
    else if ('account' in message) resolve({ ...nothing, account: message.account })
    else resolve({ ...nothing, obstacle: { fault: message.obstacle, text: message.text } })
  })
  child.on('error', ({ message }) => resolve({ ...nothing, end: message }))
  child.on('exit', (code, signal) =>
    resolve({ ...nothing, end: `its process ended by ${signal ?? `exit code ${code}`}` })
  )
  return promise.finally(() => clearTimeout(timer))
}

function outputOf({ stdout, stderr }: ChildProcess): () => string {
  let text = ''
  for (const stream of [stdout, stderr]) {
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      if (text.length < MAX_OUTPUT) text += chunk
    })
  }
  return () => text
}

function lastWords(output: string): string {
  const errors = output.split('\n').filter((line) => /^\w*Error\b/.test(line))
  return errors.at(-1) ?? ''
}

/** The suite's own warnings among the lines that the service has written. */
function warningsIn(output: string): string[] {
  const messages = output.split('\n').flatMap((line) => {
    const { level, msg } = fieldsOf(line)
    const isWarning = typeof level === 'number' ? level >= WARN : LEVELS.has(String(level))
    return isWarning && typeof msg === 'string' && SUITE_LINE.test(msg) ? [msg] : []
  })
  return [...new Set(messages)]
}

function fieldsOf(line: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(line))
  } catch {
    return {}
  }
}
