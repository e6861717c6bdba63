import { AsyncLocalStorage } from 'node:async_hooks'
import type { Context } from '@opentelemetry/api'
import type { Observation } from './observation.ts'

/** What code runs for, through all that it awaits. */
export interface Scope {
  readonly observation: Observation | undefined
  /** OpenTelemetry's, `undefined` for its root. */
  readonly context: Context | undefined
}

// One storage for both: each that a request enters costs all its asynchronous calls.
const storage = new AsyncLocalStorage<Scope>()

/** Calls the function for nobody. */
export const runOutside: <Args extends unknown[], Result>(fn: (...args: Args) => Result, ...args: Args) => Result =
  AsyncLocalStorage.snapshot()

/** Calls the function for a request, or for a part of one. */
export function runIn<Args extends unknown[], Result>(
  scope: Scope,
  fn: (...args: Args) => Result,
  ...args: Args
): Result {
  return storage.run(scope, fn, ...args)
}

export function currentScope(): Scope | undefined {
  return storage.getStore()
}

/** The observation of the request that the calling code works for, `undefined` outside of one. */
export function currentObservation(): Observation | undefined {
  return storage.getStore()?.observation
}
