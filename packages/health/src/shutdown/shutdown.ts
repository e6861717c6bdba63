import {
  clearTimeout,
  flushTracerProvider,
  lossesOf,
  registryOf,
  setTimeout,
  sleep,
  thrownText,
  turn,
  withDocs,
  within
} from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import type { ShutdownOptions, ShutdownSignal } from '../options.ts'
import { watchConnections } from './connections.ts'
import { onProcessEnd } from './process-end.ts'

/** What the `onClose` hooks may take after the requests. */
const HOOKS_MS = 10_000
const DELAY_MS = 5_000
const FLUSH_MS = 2_000
/** For how long a connection without a request may still send its first. */
const SILENT_MS = 500
const MAX_NAMED = 10

interface Readiness {
  /** Called as soon as it is known that the service shuts down. */
  drain(): void
  /** Whether anybody sends requests by it. */
  isWatched(): boolean
}

/** Ends the process on a signal or an uncaught error, and gives closing the app a deadline. */
export function installShutdown(
  app: FastifyInstance,
  { delayMs, timeoutMs = 10_000, signals = ['SIGTERM', 'SIGINT'] }: ShutdownOptions,
  { drain, isWatched }: Readiness
): void {
  const observation = registryOf(app)
  const connections = watchConnections(app)
  let silence: NodeJS.Timeout | undefined
  let deadline: NodeJS.Timeout | undefined

  observation.jobs.timeoutMs = timeoutMs
  observation.closing.push(() => {
    connections.closeAfterRequests()
    drain()
    silence = setTimeout(connections.closeSilent, Math.min(SILENT_MS, timeoutMs))
    deadline = setTimeout(connections.abortRequests, timeoutMs)
  })
  app.addHook('onClose', async () => {
    clearTimeout(silence)
    clearTimeout(deadline)
    stopListening()
    if (!observation.ending && connections.aborted.length > 0)
      app.log.warn(withDocs('shutdown-and-crashes', summary()), 'closed; requests were aborted')
  })

  function summary(): object {
    const { aborted } = connections
    return {
      ...(aborted.length > 0 && { aborted_count: aborted.length, aborted_requests: aborted.slice(0, MAX_NAMED) }),
      dropped: lossesOf(observation.published)
    }
  }

  function startDraining(): void {
    connections.drain()
    drain()
    observation.ending = true
  }

  async function shutDown(signal: ShutdownSignal): Promise<void> {
    const startedAt = performance.now()
    const delay = app.server.listening ? (delayMs ?? (isWatched() ? DELAY_MS : 0)) : 0
    startDraining()
    app.log.info({ signal, delay_ms: delay }, 'shutting down')
    if (delay > 0) await sleep(delay)
    const failure = await closeWithin(timeoutMs + HOOKS_MS)
    // What the user's hooks have recorded meanwhile.
    await flush()
    const outcome = { signal, duration_ms: Math.round(performance.now() - startedAt), ...summary() }
    if (failure)
      app.log.error(withDocs('shutdown-and-crashes', { ...outcome, err: failure }), 'shutdown finished with errors')
    else app.log.info(outcome, 'shutdown finished')
    await observation.flush(FLUSH_MS)
    if (failure) throw failure
  }

  /** What went wrong, if anything did. */
  async function closeWithin(ms: number): Promise<Error | undefined> {
    const closed = app.close().then(() => true)
    try {
      return (await within(ms, closed)) ? undefined : new Error(`the onClose hooks had not ended after ${ms} ms`)
    } catch (error) {
      return error instanceof Error ? error : new Error(thrownText(error))
    }
  }

  async function crash(error: unknown): Promise<void> {
    startDraining()
    if (isSilent(app)) console.error(error)
    app.log.fatal(withDocs('shutdown-and-crashes', { err: error }), 'uncaught error, the process ends')
    connections.abortRequests()
    // Others that listen to the error, such as Sentry, are called in this turn.
    await turn()
    await flush()
  }

  async function flush(): Promise<void> {
    await Promise.all([observation.flush(FLUSH_MS), forceFlushTraces(FLUSH_MS)])
  }

  const stopListening =
    signals.length === 0
      ? () => undefined
      : onProcessEnd({
          signals,
          shutDown,
          crash,
          reportFurther: (err) =>
            app.log.fatal(withDocs('shutdown-and-crashes', { err }), 'another uncaught error, while the process ends')
        })
}

/** Has the process's tracer provider send what it holds, ours or another. */
async function forceFlushTraces(timeoutMs: number): Promise<void> {
  await within(
    timeoutMs,
    flushTracerProvider().catch(() => undefined)
  )
}

// Node prints the error that ends a process only while nobody listens to it.
function isSilent({ log: { level } }: FastifyInstance): boolean {
  return level === undefined || level === 'silent'
}
