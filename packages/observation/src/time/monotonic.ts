/** Milliseconds for deadlines, by the clock that a test's fake one, which may stand still, has replaced. */
export const monotonicMs: () => number = performance.now.bind(performance)
