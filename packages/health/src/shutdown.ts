import type { Socket } from 'node:net'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import type { Series } from '@fastify-observability/observation'
import { type Registry, type RequestObservation, registryOf } from '@fastify-observability/observation/internal'
import { ProxyTracerProvider, trace } from '@opentelemetry/api'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'

export interface ShutdownOptions {
  /**
   * For how long the service goes on answering after a signal, with readiness 503, in milliseconds: load balancers need
   * that to send their requests elsewhere. @default 5000
   */
  delayMs?: number
  /** How long requests may take once the app closes, in milliseconds. What is left then is cut. @default 10000 */
  timeoutMs?: number
  /** Signals that shut the service down. None with `[]`: then close the app yourself. @default ['SIGTERM', 'SIGINT'] */
  signals?: ShutdownSignal[]
}

export type ShutdownSignal = 'SIGTERM' | 'SIGINT' | 'SIGHUP' | 'SIGQUIT' | 'SIGUSR2'

export const SIGNALS: ShutdownSignal[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']

/** A request that was cut. */
interface Cut {
  method: string
  route: string
  request_id: string | undefined
  duration_ms: number
}

// close-with-grace listens to all of these unless told otherwise.
const FOREIGN = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV'] as const
const ERRORS = ['uncaughtException', 'unhandledRejection'] as const
/** What the `onClose` hooks may take after the requests. */
const HOOKS_MS = 10_000
const FLUSH_MS = 2_000
/** For how long a connection without a request may still send its first. */
const SILENT_MS = 500
const MAX_NAMED = 10

// The apps of a process end with it together.
const shutdowns = new Set<Promise<unknown>>()

/**
 * Ends the process on a signal or an uncaught error, and gives closing the app a deadline.
 * @param drain called once, as soon as it is known that the service goes.
 */
export function installShutdown(
  app: FastifyInstance,
  { delayMs = 5_000, timeoutMs = 10_000, signals = ['SIGTERM', 'SIGINT'] }: ShutdownOptions,
  drain: () => void
): void {
  const observation = registryOf(app)
  const inFlight = new Set<RequestObservation>()
  const sockets = new Set<Socket>()
  const cut: Cut[] = []
  let draining = false
  let closing = false
  let silence: NodeJS.Timeout | undefined
  let deadline: NodeJS.Timeout | undefined

  observation.observe({
    name: '@fastify-observability/health',
    start: (request) => void inFlight.add(request),
    headers({ response }) {
      // Node says `connection: close` then, and clients come back to another instance.
      if (draining) response.shouldKeepAlive = false
    },
    end(request) {
      inFlight.delete(request)
      if (closing) setImmediate(closeIdleConnections)
    }
  })

  // With TLS the second is the one that has read what the client says.
  for (const event of ['connection', 'secureConnection']) {
    app.server.on(event, (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
  }

  // An answer whose headers went out before promised to keep its connection, and closing would wait for it.
  function closeIdleConnections(): void {
    if ('closeIdleConnections' in app.server) app.server.closeIdleConnections()
  }

  // Opened in advance, as browsers and pools do, and never used. Node calls these active, and closing would wait for them.
  function closeSilentConnections(): void {
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
  }

  function cutRequests(): void {
    for (const request of inFlight) {
      const { method, route, requestId, startedAt, raw } = request
      cut.push({ method, route, request_id: requestId, duration_ms: Math.round(performance.now() - startedAt) })
      // Ended now: the sockets emit their close only after the server has.
      request.abort(Object.assign(new Error('aborted: the service is shutting down'), { code: 'SHUTDOWN' }))
      closeSession(raw)
      raw.destroy()
    }
    if ('closeAllConnections' in app.server) app.server.closeAllConnections()
    // Upgraded past Fastify, such as by socket.io: closing the server waits for them, and Node counts them no more.
    for (const socket of sockets) socket.destroy()
  }

  function account(): object {
    return {
      ...(cut.length > 0 && { cut_requests: cut.length, cut: cut.slice(0, MAX_NAMED) }),
      dropped: lossesOf(observation.published)
    }
  }

  app.addHook('preClose', async () => {
    draining = closing = true
    drain()
    silence = setTimeout(closeSilentConnections, Math.min(SILENT_MS, timeoutMs))
    deadline = setTimeout(cutRequests, timeoutMs)
  })
  app.addHook('onClose', async () => {
    clearTimeout(silence)
    clearTimeout(deadline)
    for (const { uninstall } of installed) uninstall()
    if (!observation.ending && cut.length > 0) app.log.warn(account(), 'closed, with requests cut')
  })

  async function shutDown(signal: string | undefined): Promise<void> {
    const startedAt = performance.now()
    draining = true
    drain()
    observation.ending = true
    const { listening } = app.server
    app.log.info({ signal, delay_ms: listening ? delayMs : 0 }, 'shutting down')
    if (listening) await wait(delayMs)
    const failure = await closeWithin(timeoutMs + HOOKS_MS)
    // What the user's hooks have left behind.
    await Promise.all([observation.flush(FLUSH_MS), forceFlushTraces(FLUSH_MS)])
    const outcome = { signal, duration_ms: Math.round(performance.now() - startedAt), ...account() }
    if (failure) app.log.error({ ...outcome, err: failure }, 'shut down, not cleanly')
    else app.log.info(outcome, 'shut down')
    await observation.flush(FLUSH_MS)
    if (failure) throw failure
  }

  /** What went wrong, if anything did. */
  async function closeWithin(ms: number): Promise<Error | undefined> {
    const timer = new AbortController()
    const late = wait(ms, new Error(`the onClose hooks had not ended after ${ms} ms`), { signal: timer.signal })
    const closed = app.close().then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error : new Error(String(error)))
    )
    const failure = await Promise.race([closed, late])
    timer.abort()
    late.catch(() => undefined)
    return failure
  }

  async function crash(error: unknown): Promise<never> {
    draining = true
    drain()
    observation.ending = true
    if (isSilent(app)) console.error(error)
    app.log.fatal({ err: error }, 'uncaught error, the process ends')
    cutRequests()
    // For others who listen to the error, such as Sentry.
    await turn()
    await Promise.all([observation.flush(FLUSH_MS), forceFlushTraces(FLUSH_MS)])
    throw error
  }

  const unwanted = SIGNALS.filter((signal) => !signals.includes(signal))
  const installed =
    signals.length === 0
      ? []
      : [
          // Every step is bounded by itself.
          closeWithGrace(
            { delay: false, logger: false, skip: [...unwanted, ...FOREIGN, ...ERRORS, 'beforeExit'] },
            ({ signal }) => together(shutDown(signal))
          ),
          endOnErrors(crash, (err) => app.log.fatal({ err }, 'another uncaught error, while the process ends'))
        ]
}

/** Unlike close-with-grace it lets a second error, such as another rejection of the same outage, not cut the first short. */
function endOnErrors(crash: (error: unknown) => Promise<never>, tell: (error: unknown) => void): { uninstall(): void } {
  let ends = false
  const end = (error: unknown): void => {
    if (ends) {
      tell(error)
      return
    }
    ends = true
    setTimeout(() => process.exit(1), FLUSH_MS + 200)
    together(crash(error)).catch(() => process.exit(1))
  }
  for (const event of ERRORS) process.on(event, end)
  return {
    uninstall() {
      for (const event of ERRORS) process.off(event, end)
    }
  }
}

/** Resolves when all apps of the process are done; rejects when this one did. */
async function together(shutdown: Promise<void>): Promise<void> {
  shutdowns.add(shutdown)
  // The other apps hear of the signal after this one.
  await turn()
  await Promise.allSettled(shutdowns)
  await shutdown
}

function closeSession(raw: object): void {
  // HTTP/2 has no closeAllConnections.
  const stream: unknown = Reflect.get(raw, 'stream')
  if (typeof stream !== 'object' || stream === null || !('session' in stream)) return
  const { session } = stream
  if (typeof session !== 'object' || session === null || !('destroy' in session)) return
  if (typeof session.destroy === 'function') session.destroy()
}

/** What the counters of the parts say was lost, by series. */
function lossesOf(published: Registry['published']): Record<string, number> {
  const losses: [string, number][] = []
  for (const series of published) {
    try {
      losses.push(...lossesIn(series))
    } catch {
      // A part that cannot count must not keep the process.
    }
  }
  return Object.fromEntries(losses)
}

// A span that was exported or processed well has an empty error_type.
function lossesIn({ name, type, labelNames, collect }: Series): [string, number][] {
  if (type !== 'counter') return []
  if (!name.endsWith('_dropped_total') && !(name.startsWith('otel_sdk_') && labelNames.includes('error_type')))
    return []
  return Array.from(collect()).flatMap(([labels, count]) => {
    const [reason = ''] = Object.values(labels)
    return count > 0 && reason !== '' ? [[`${name}{${reason}}`, count]] : []
  })
}

/** Has the process's tracer provider send what it holds, whoever registered it. */
async function forceFlushTraces(timeoutMs: number): Promise<void> {
  const registered = trace.getTracerProvider()
  const provider = registered instanceof ProxyTracerProvider ? registered.getDelegate() : registered
  if (!('forceFlush' in provider) || typeof provider.forceFlush !== 'function') return
  const timer = new AbortController()
  const flushed = Promise.resolve(provider.forceFlush()).catch(() => undefined)
  await Promise.race([flushed, wait(timeoutMs, undefined, { signal: timer.signal })])
  timer.abort()
}

// Node says what ends a process only while nobody listens.
function isSilent({ log: { level } }: FastifyInstance): boolean {
  return level === undefined || level === 'silent'
}
