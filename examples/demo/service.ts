import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { within } from './deadline.ts'
import { HOST } from './ports.ts'

/** A line of the service's log, as it was written. */
export interface Line {
  time: string
  level: string
  msg: string
  service: string
  request_id?: string
  trace_id?: string
  method?: string
  path?: string
  route?: string
  status_code?: number
  duration_ms?: number
  db_calls?: number
  aborted?: boolean
}

/** A service that did not do its part: its message is one sentence. */
export class ServiceError extends Error {
  override name = 'ServiceError'
}

export interface Service {
  name: string
  url: string
  /** Everything logged so far. */
  lines: Line[]
  /** Resolves with the first line that matches, logged already or to come. */
  line(matches: (line: Line) => boolean): Promise<Line>
  /** Calls the listener for every line to come. */
  follow(listener: (line: Line) => void): void
  /** Resolves when readiness is answered with 200; rejects when it takes too long. */
  ready(): Promise<void>
  /** Rejects when the process ends without having been stopped. */
  failed: Promise<never>
  /** Ends the process, by force if it takes too long. Resolves with whether it ended well. */
  stop(): Promise<boolean>
}

const READY_MS = 60_000
const PROBE_MS = 1_000
const POLL_MS = 50
const STOP_MS = 12_000

const LEASH = new URL('leash.ts', import.meta.url).href
const REGISTER = createRequire(import.meta.resolve('@fastify-observability/example-orders')).resolve(
  'fastify-observability/register'
)
// The round has to come out the same whatever the user's shell exports.
const FOREIGN = /^(OTEL_|SENTRY_|LOG_|PAYMENTS_|DATABASE_URL$|REDIS_URL$|NODE_ENV$|.*_proxy$)/i

/**
 * Starts a service in a process of its own.
 * @param isPreloaded whether the preload runs before it, as in `npm start` of the services
 */
export function startService(
  name: string,
  script: URL,
  port: number,
  env: Record<string, string>,
  isPreloaded = true
): Service {
  const inherited = Object.entries(process.env).filter(([variable]) => !FOREIGN.test(variable))
  const preload = isPreloaded ? ['--import', pathToFileURL(REGISTER).href] : []
  const child = spawn(process.execPath, ['--import', LEASH, ...preload, fileURLToPath(script)], {
    env: { ...Object.fromEntries(inherited), ...env, OTEL_SERVICE_NAME: name, HOST, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    // Ctrl-C reaches the demo alone: a second signal would end a service at once.
    detached: true
  })
  const url = `http://${HOST}:${port}`
  const lines: Line[] = []
  const arrivals = new EventEmitter<{ line: [Line] }>()
  const { promise: failed, reject } = Promise.withResolvers<never>()
  const { promise: ended, resolve } = Promise.withResolvers<boolean>()
  let stopping = false

  function end(how: string, well: boolean): void {
    if (!stopping) reject(new ServiceError(`${name} ended ${how} without having been asked to.`))
    if (stopping && !well) console.error(`${name} ended ${how}; its last line: ${JSON.stringify(lines.at(-1))}`)
    resolve(well)
  }
  child.on('error', (error) => end(`with ${error.message}`, false))
  child.on('exit', (code, signal) => {
    // While it starts, a service has no handler and simply ends by the signal, which may be the terminal's own.
    end(`with ${signal ?? `code ${code}`}`, code === 0 || signal === 'SIGTERM' || signal === 'SIGINT')
  })
  if (!child.stdout) throw new Error(`${name} has no standard output`)
  createInterface({ input: child.stdout }).on('line', (text) => {
    // A console.log in an example is not a log line.
    if (!text.startsWith('{')) return
    const line: Line = JSON.parse(text)
    lines.push(line)
    arrivals.emit('line', line)
  })

  return {
    name,
    url,
    lines,
    failed,
    async line(matches) {
      for (;;) {
        const found = lines.find(matches)
        if (found) return found
        await once(arrivals, 'line')
      }
    },
    follow(listener) {
      arrivals.on('line', listener)
    },
    async ready() {
      const until = performance.now() + READY_MS
      while (performance.now() < until && child.exitCode === null && !stopping) {
        const signal = AbortSignal.timeout(PROBE_MS)
        const answer = await fetch(`${url}/health/ready`, { signal }).catch(() => undefined)
        await answer?.arrayBuffer()
        if (answer?.ok) return
        await wait(POLL_MS)
      }
      throw new ServiceError(`${name} was not ready within ${READY_MS / 1000} s.`)
    },
    async stop() {
      stopping = true
      child.kill('SIGTERM')
      const well = await within(STOP_MS, ended)
      if (well !== undefined) return well
      console.error(`${name} did not end within ${STOP_MS / 1000} s; its last line: ${JSON.stringify(lines.at(-1))}`)
      child.kill('SIGKILL')
      await ended
      return false
    }
  }
}
