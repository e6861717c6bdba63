import type { Histogram } from './instruments/histogram.ts'
import type { Labels } from './instruments/labels.ts'

/** Runs `fn` and observes the seconds until it returns, throws or its promise settles. */
export function time<Label extends string, Result>(
  histogram: Histogram<Label>,
  labels: Labels<Label>,
  fn: () => Result
): Result {
  const stop = once(histogram.startTimer(labels))
  let result: Result
  try {
    result = fn()
  } catch (error) {
    stop()
    throw error
  }
  if (result instanceof Promise) result.then(stop, stop)
  else if (!watch(result, stop)) stop()
  return result
}

/** Calls `settled` when a thenable has settled. A query builder runs its query at each `then`: only its user may call it. */
function watch(value: unknown, settled: () => void): boolean {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  try {
    const then: unknown = Reflect.get(value, 'then')
    if (typeof then !== 'function') return false
    const watched = (fulfilled?: unknown, rejected?: unknown): unknown => {
      const onFulfilled = (result: unknown): unknown => {
        settled()
        return typeof fulfilled === 'function' ? fulfilled(result) : result
      }
      const onRejected = (error: unknown): unknown => {
        settled()
        if (typeof rejected === 'function') return rejected(error)
        throw error
      }
      return Reflect.apply(then, value, [onFulfilled, onRejected])
    }
    return Reflect.defineProperty(value, 'then', { value: watched, configurable: true, writable: true })
  } catch {
    return false
  }
}

function once(fn: () => unknown): () => void {
  let called = false
  return () => {
    if (called) return
    called = true
    fn()
  }
}
