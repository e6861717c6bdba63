import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'

export interface ProgramOptions {
  name: string
  command: string
  args: string[]
  /** Where what it says goes. */
  logFile: string
  /** Resolves with whether it can be used by now. */
  isReady: () => Promise<boolean>
  env?: Record<string, string>
  cwd?: string
  /** Who it runs as, for a program that refuses to be root. */
  user?: { uid: number; gid: number }
  /** What ends it well. @default 'SIGTERM' */
  signal?: NodeJS.Signals
}

/** A part of the stack in a process of its own. */
export interface Program {
  name: string
  /** Rejects when it ends without having been stopped. */
  failed: Promise<never>
  /** Ends it, by force if it takes too long. Resolves with whether it ended well. */
  stop(): Promise<boolean>
}

/** A part that did not do what it should: its message is one sentence and the last that it said. */
export class ProgramError extends Error {
  override name = 'ProgramError'
}

const READY_MS = 60_000
const POLL_MS = 100
const STOP_MS = 15_000
const SAID_CHARACTERS = 2_000

/** @throws ProgramError if it is not ready in time. */
export async function startProgram(options: ProgramOptions): Promise<Program> {
  const { name, command, args, logFile, isReady, env = {}, cwd, user, signal = 'SIGTERM' } = options
  const log = createWriteStream(logFile)
  const child = spawn(command, args, {
    cwd,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...user
  })
  child.stdout.pipe(log, { end: false })
  child.stderr.pipe(log, { end: false })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)

  let running = true
  let stopping = false
  const { promise: failed, reject } = Promise.withResolvers<never>()
  failed.catch(() => undefined)
  const ended = once(child, 'exit').then(
    ([code, by]) => ({ well: code === 0 || by === signal, how: by ?? `code ${code}` }),
    // A program that is not there.
    (error) => ({ well: false, how: String(error) })
  )
  void ended.then(({ how }) => {
    running = false
    process.removeListener('exit', kill)
    if (!stopping) reject(failure(`ended with ${how} without having been asked to`))
  })

  function failure(what: string): ProgramError {
    const said = readFileSync(logFile, 'utf8').slice(-SAID_CHARACTERS)
    return new ProgramError(`${name} ${what}. The last it said, in ${logFile}:\n${said}`)
  }

  async function stop(): Promise<boolean> {
    stopping = true
    child.kill(signal)
    const late = setTimeout(kill, STOP_MS)
    const { well } = await ended
    clearTimeout(late)
    return well
  }

  const until = performance.now() + READY_MS
  while (running && performance.now() < until) {
    if (await isReady()) return { name, failed, stop }
    await wait(POLL_MS)
  }
  const error = failure(running ? `was not ready within ${READY_MS / 1000} s` : 'ended at once')
  await stop()
  throw error
}
