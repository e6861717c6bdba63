import { isThenable, watchResult } from '@fastify-observability/observation/internal'

/**
 * Passes a value on that a function of the application has returned.
 * @throws TypeError for a promise: JavaScript accepts an async function where a value is expected at once.
 */
export function synchronous(name: string, value: unknown): unknown {
  if (!isThenable(value)) return value
  // Its rejection must not end the process.
  watchResult(value, () => undefined)
  throw new TypeError(`${name} must return a value, got a promise`)
}
