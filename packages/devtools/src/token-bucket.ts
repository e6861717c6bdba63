/** Lets so many through at once, and after that so many a second. */
export interface Rate {
  readonly burst: number
  readonly perSecond: number
}

/**
 * Says of each one that comes whether it is let through.
 * @param nowMs of a clock that only goes forward.
 */
export type TokenBucket = (nowMs: number) => boolean

export function tokenBucket({ burst, perSecond }: Rate): TokenBucket {
  let tokens = burst
  let filledAtMs = Number.NaN
  return (nowMs) => {
    // Of two requests the one that ends first may have begun last.
    if (nowMs > filledAtMs) tokens = Math.min(burst, tokens + ((nowMs - filledAtMs) * perSecond) / 1_000)
    if (!(nowMs <= filledAtMs)) filledAtMs = nowMs
    if (tokens < 1) return false
    tokens--
    return true
  }
}
