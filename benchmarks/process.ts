import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import type { Answered, Load } from './load.ts'
import type { Question, Usage } from './server.ts'
import { type Ends, type Variant, type VariantName, variants } from './variants.ts'

export interface Running {
  url: string
  pid: number
  usage(): Promise<Usage>
  /** From here on, `allocatedBytes` says how many bytes of objects were made. */
  watchAllocation(): Promise<void>
  /** Nothing where the runtime does not count. */
  allocatedBytes(): Promise<number | null>
  /** Lets it end by itself. */
  end(): Promise<void>
  stop(): Promise<void>
}

interface ServerOptions {
  variant: VariantName
  ends: Ends
  databaseUrl?: string
  /** A file descriptor for standard output. */
  log: number | 'ignore'
  /** Further flags of Node. */
  flags?: string[]
  /** Adds routes whose work grows, and so many others. */
  routes?: number
  /** A command with arguments that runs Node. */
  under?: string[]
}

/** With the packages of peers/requirements.txt. */
export const PYTHON: string = process.env.BENCH_PYTHON ?? 'python3'
/** Where a server is measured by its time it has a core to itself; load, sinks and database share the other. */
const SERVER_CORE = 0
const LOAD_CORE = 1
export const canPin: boolean = availableParallelism() > 1 && spawnSync('taskset', ['-c', '0,1', 'true']).status === 0

/** The command with its arguments, kept on a core where the system can do that. */
function pinned(core: number, command: string, args: string[]): [string, string[]] {
  return canPin ? ['taskset', ['-c', String(core), command, ...args]] : [command, args]
}

/** On the core of the load. */
export function besideLoad(command: string, args: string[]): [string, string[]] {
  return pinned(LOAD_CORE, command, args)
}

function startNode(file: string): ChildProcess {
  return startProcess(LOAD_CORE, [process.execPath, here(file)], 'ignore', {})
}

function startProcess(core: number, command: string[], log: number | 'ignore', env: NodeJS.ProcessEnv): ChildProcess {
  const [program = '', ...args] = command
  // None of the variables that the suite or OpenTelemetry listens to.
  const { PATH, HOME } = process.env
  return spawn(...pinned(core, program, args), {
    stdio: ['ignore', log, 'inherit', 'ipc'],
    // Where the preload is looked for.
    cwd: here('.'),
    // In production the developer page is off, and its variants differ from the others by the page alone.
    env: { PATH, HOME, NODE_ENV: 'staging', ...env }
  })
}

function here(file: string): string {
  return new URL(file, import.meta.url).pathname
}

async function reply<Message>(child: ChildProcess): Promise<Message> {
  const answered = new AbortController()
  const { signal } = answered
  const ended = once(child, 'exit', { signal }).then(([code, by]) => {
    throw new Error(`${child.spawnargs.join(' ')} ended with ${code ?? by}`)
  })
  const [message] = await Promise.race([once(child, 'message', { signal }), ended])
  ended.catch(() => undefined)
  answered.abort()
  return message
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** Resolves when the server listens. */
export async function startServer({
  variant,
  ends,
  databaseUrl,
  log,
  flags = [],
  routes,
  under = []
}: ServerOptions): Promise<Running> {
  const { python }: Variant = variants[variant]
  const command = python
    ? [PYTHON, here('peers/app.py'), python]
    : // What is measured is what is published, and Node does not strip types on the way.
      [...under, process.execPath, '--conditions=built', ...flags, here('server.ts'), variant]
  const env = {
    BENCH_OTLP: ends.endpoint,
    BENCH_OTLP_HTTP: ends.httpEndpoint,
    BENCH_DSN: ends.dsn,
    ...(routes !== undefined && { BENCH_ROUTES: String(routes) }),
    ...(databaseUrl && { BENCH_DATABASE_URL: databaseUrl })
  }
  const child = startProcess(SERVER_CORE, command, log, env)
  const url = await reply<string>(child)
  const ask = <Answer>(question: Question): Promise<Answer> => {
    child.send(question)
    return reply<Answer>(child)
  }
  return {
    url,
    pid: child.pid ?? 0,
    usage: () => ask<Usage>('usage'),
    watchAllocation: () => ask<void>('watch allocation'),
    allocatedBytes: () => ask<number | null>('allocated bytes'),
    async end() {
      child.disconnect()
      await once(child, 'exit')
    },
    stop: () => kill(child)
  }
}

export async function startSink(): Promise<{ ends: Ends; stop(): Promise<void> }> {
  const child = startNode('sink.ts')
  return { ends: await reply<Ends>(child), stop: () => kill(child) }
}

/** What is done while the connections are open, before the first request and after the last answer. */
interface Around {
  connected?(): Promise<void>
  answered?(): Promise<void>
}

/** A process that asks, one load after the other. */
export interface Generator {
  load(asked: Load, around?: Around): Promise<Answered>
  stop(): Promise<void>
}

/** Ends with this process, and does not keep it. */
export function startGenerator(): Generator {
  const child = startNode('load.ts')
  child.channel?.unref()
  child.unref()
  return {
    async load(asked, around = {}) {
      child.ref()
      child.channel?.ref()
      child.send(asked)
      await reply<'connected'>(child)
      await around.connected?.()
      child.send('go')
      const answered = await reply<Answered>(child)
      await around.answered?.()
      child.send('close')
      await reply<'done'>(child)
      child.channel?.unref()
      child.unref()
      return answered
    },
    async stop() {
      child.ref()
      await kill(child)
    }
  }
}

let shared: Generator | undefined

/** Asks from one process for all turns: as warm as the servers are. */
export function load(asked: Load, around?: Around): Promise<Answered> {
  shared ??= startGenerator()
  return shared.load(asked, around)
}

/** Keeps this process, which scrapes, off the core of the server. */
export function stayBesideLoad(): void {
  if (canPin) spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(LOAD_CORE), String(process.pid)])
}
