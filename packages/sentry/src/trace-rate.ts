const SECOND_MS = 1_000

/**
 * The sample rate of Sentry's traces: the configured one, lowered while it would begin more traces per second than allowed.
 * Of a second it knows how many requests the one before had. Beyond those, and beyond what needs no lowering, the rate falls
 * with the square of their number: whatever comes, a second begins twice as many traces as allowed at most, on average and beside
 * those that callers have sampled. Of a sudden second so few remain that what Sentry extrapolates from them is rough.
 */
export class TraceRate {
  /** For a span that begins now, 0 to 1. */
  now: number
  private readonly asked: number
  private readonly maxPerSecond: number
  /** So many requests a second need no lowering. */
  private readonly few: number
  private second = 0
  private requests = 0
  private before = 0

  constructor(asked: number, maxPerSecond: number) {
    this.now = this.asked = asked
    this.maxPerSecond = maxPerSecond
    this.few = maxPerSecond / asked
  }

  /**
   * The share for a request, which is counted.
   * @param arrivedAt milliseconds of `performance.now()`
   */
  of(arrivedAt: number): number {
    const second = Math.floor(arrivedAt / SECOND_MS)
    // One that has arrived before the last may begin after it.
    if (second > this.second) {
      this.before = second === this.second + 1 ? this.requests : 0
      this.requests = 0
      this.second = second
    }
    this.requests++
    const usual = Math.max(this.few, this.before)
    if (this.requests > usual) return (this.maxPerSecond * usual) / this.requests ** 2
    return this.before > this.few ? this.maxPerSecond / this.before : this.asked
  }

  /** Calls the function, in which spans begin at this sample rate: their trace carries it, and Sentry extrapolates from it. */
  during<Result>(share: number, fn: () => Result): Result {
    this.now = share
    try {
      return fn()
    } finally {
      this.now = this.asked
    }
  }
}
