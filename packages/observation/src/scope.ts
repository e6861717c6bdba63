import { AsyncLocalStorage } from 'node:async_hooks'
import type { Channel } from 'node:diagnostics_channel'
import { type Context, context, createContextKey, ROOT_CONTEXT } from '@opentelemetry/api'
import type { JobObservation } from './job.ts'
import type { Observation } from './observation.ts'
import type { RequestObservation } from './request-observation.ts'
import type { Job } from './work.ts'

/** What code runs for, through all that it awaits. */
export interface Scope {
  readonly observation: RequestObservation | JobObservation | undefined
  /** OpenTelemetry's, `undefined` for its root. */
  readonly context: Context | undefined
}

// One storage for both: each that a request enters costs all its asynchronous calls.
const storage = new AsyncLocalStorage<Scope>()

/** Calls the function outside every request. */
export const runOutside: <Args extends unknown[], Result>(fn: (...args: Args) => Result, ...args: Args) => Result =
  AsyncLocalStorage.snapshot()

// The SDK's own key for what it must not trace. https://github.com/open-telemetry/opentelemetry-js/blob/main/packages/opentelemetry-core/src/trace/suppress-tracing.ts
const SUPPRESS_TRACING = createContextKey('OpenTelemetry SDK Context Key SUPPRESS_TRACING')
const BACKGROUND = createContextKey('fastify-observability.background')
const background: Scope = {
  observation: undefined,
  context: ROOT_CONTEXT.setValue(SUPPRESS_TRACING, true).setValue(BACKGROUND, true)
}

/**
 * Calls the function as work of the suite's own, such as batches, flushes, probes and deliveries: outside every request,
 * and what it calls is neither traced nor given ids.
 */
export function runInBackground<Args extends unknown[], Result>(fn: (...args: Args) => Result, ...args: Args): Result {
  return runOutside(() =>
    storage.run(background, () => context.with(background.context ?? ROOT_CONTEXT, fn, undefined, ...args))
  )
}

/** Whether the calling code is work of the suite's own. */
export function isBackground(): boolean {
  return (currentScope()?.context ?? context.active()).getValue(BACKGROUND) === true
}

/** Calls the function for a request, or for a part of one. */
export function runIn<Args extends unknown[], Result>(
  scope: Scope,
  fn: (...args: Args) => Result,
  ...args: Args
): Result {
  // Entering a scope copies Node's map of all storages; most responses close in the scope of their own request.
  return storage.getStore() === scope ? fn(...args) : storage.run(scope, fn, ...args)
}

export function currentScope(): Scope | undefined {
  return storage.getStore()
}

/** That of no request. */
const NO_SCOPE: Scope = { observation: undefined, context: undefined }

/**
 * Has what follows upon a message of the channel do so in another scope, `undefined` for none.
 * @returns what ends that
 */
export function bindScope<Message extends object>(
  channel: Channel<unknown, Message>,
  scopeOf: (message: Message) => Scope | undefined
): () => void {
  channel.bindStore(storage, (message) => scopeOf(message) ?? NO_SCOPE)
  return () => channel.unbindStore(storage)
}

/** The request or the job that the calling code works for, `undefined` outside of one. Only a job has a name, `job`. */
export function currentObservation(): Observation | Job | undefined {
  return storage.getStore()?.observation
}
