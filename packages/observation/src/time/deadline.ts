import { clearTimeout, setTimeout } from './timers.ts'

/** Node makes a longer time one millisecond. */
const MAX_MS = 2 ** 31 - 1

/**
 * Waits for work at most so long: resolves with what the work gives, or with `undefined` once the time is up. Rejects as
 * the work does.
 */
export async function within<Result>(timeoutMs: number, work: PromiseLike<Result>): Promise<Result | undefined> {
  const { promise: expired, resolve } = Promise.withResolvers<undefined>()
  // Node warns of a negative time, which a deadline that has passed leaves.
  const timer = setTimeout(resolve, Math.min(Math.max(timeoutMs, 0), MAX_MS), undefined)
  try {
    return await Promise.race([work, expired])
  } finally {
    clearTimeout(timer)
  }
}
