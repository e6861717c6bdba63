import { constants } from 'node:os'
import { isMainThread } from 'node:worker_threads'
import { isRecord, monotonicMs, registryOf, withDocs } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const
const ENDING: unique symbol = Symbol.for('fastify-observability.ending')
/** For all that is held, and for what was recorded while that was delivered. With the end itself less than two seconds. */
const DELIVERY_MS = 1_800

/** Our listener, which other copies of this package in the process know by its mark. */
interface Listener {
  (signal: NodeJS.Signals): void
  [ENDING](): readonly FastifyInstance[]
}

// The apps of a process end with it together, and have one listener.
const apps = new Set<FastifyInstance>()
let isEnding = false

/**
 * Has a signal that nobody else listens to deliver what the app holds before it ends the process, as it would without us.
 * One that somebody listens to is left to them.
 */
export function deliverAtSignals(app: FastifyInstance): void {
  // Signals do not reach worker threads.
  if (!isMainThread) return
  // First: a listener that is called once is gone when the next one looks for it.
  if (apps.size === 0) for (const signal of SIGNALS) process.prependListener(signal, listener)
  apps.add(app)
  app.addHook('onClose', async () => {
    apps.delete(app)
    if (apps.size === 0) stopListening()
  })
}

const listener: Listener = Object.assign((signal: NodeJS.Signals) => received(signal), { [ENDING]: () => [...apps] })

function stopListening(): void {
  for (const signal of SIGNALS) process.off(signal, listener)
}

function received(signal: NodeJS.Signals): void {
  const listeners = process.listeners(signal)
  const ours = listeners.filter(isOurs)
  // One copy of this package acts for all.
  if (ours[0] !== listener) return
  if (listeners.length - ours.length > countPassive()) return
  const all = ours.flatMap((one) => one[ENDING]())
  if (isEnding) end(signal, all)
  else void deliver(signal, all).finally(() => end(signal, all))
  isEnding = true
}

async function deliver(signal: NodeJS.Signals, all: readonly FastifyInstance[]): Promise<void> {
  const deadline = monotonicMs() + DELIVERY_MS
  const reports = await Promise.all(all.map((app) => registryOf(app).flush(DELIVERY_MS)))
  for (const [index, { complete, ...undelivered }] of reports.entries()) {
    if (complete) continue
    all[index]?.log.warn(
      withDocs('delivery', { signal, undelivered }),
      'the process ends and could not deliver everything'
    )
  }
  // Requests have been answered meanwhile.
  const left = deadline - monotonicMs()
  if (reports.every(({ complete }) => complete)) await Promise.all(all.map((app) => registryOf(app).flush(left)))
}

function end(signal: NodeJS.Signals, all: readonly FastifyInstance[]): void {
  for (const app of all) registryOf(app).flushSync()
  for (const one of process.listeners(signal)) if (isOurs(one)) process.off(signal, one)
  // As the first process of a container: what a signal does by default, it does not do to that one.
  if (process.pid === 1) process.exit(128 + constants.signals[signal])
  process.kill(process.pid, signal)
}

function isOurs(candidate: object): candidate is Listener {
  return ENDING in candidate
}

/**
 * How many listeners do as we do: those of signal-exit, which many command line packages bring, end the process only where
 * nobody else listens. https://github.com/tapjs/signal-exit/blob/v4.1.0/src/index.ts#L176
 */
function countPassive(): number {
  const emitters = [
    Reflect.get(globalThis, Symbol.for('signal-exit emitter')),
    Reflect.get(process, '__signal_exit_emitter__')
  ]
  return emitters.reduce<number>((sum, emitter) => {
    return isRecord(emitter) && typeof emitter.count === 'number' ? sum + emitter.count : sum
  }, 0)
}
