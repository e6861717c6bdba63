const EVENTS = ['uncaughtException', 'unhandledRejection'] as const

/**
 * Calls `first` for the first uncaught error or rejection and `further` for those that come while the process ends.
 * close-with-grace would end the process at the second one, such as another rejection of the same outage.
 * @returns a function that stops listening
 */
export function onUncaughtErrors(first: (error: unknown) => void, further: (error: unknown) => void): () => void {
  let isEnding = false
  const listener = (error: unknown): void => {
    if (isEnding) {
      further(error)
      return
    }
    isEnding = true
    first(error)
  }
  for (const event of EVENTS) process.on(event, listener)
  return () => {
    for (const event of EVENTS) process.off(event, listener)
  }
}
