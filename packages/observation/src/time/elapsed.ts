/** Milliseconds between two readings of `performance.now()`. A test's fake clock may go back, or read no number: that is 0. */
export function elapsedMs(since: number, until: number = performance.now()): number {
  return until > since ? until - since : 0
}
