type Capture = (thrown: unknown, level: 'fatal' | 'error') => void

/**
 * Captures uncaught exceptions and unhandled rejections, and leaves it to Node and the application whether they end the
 * process. One that does is captured first and ends the process when `flush` has settled.
 */
export function watchCrashes(capture: Capture, flush: () => Promise<unknown>): { stop(): void } {
  let dying = false

  // An error thrown here would end the process, with another exit code.
  function captureSafely(thrown: unknown, level: 'fatal' | 'error'): void {
    try {
      capture(thrown, level)
    } catch {
      // Node and the application still handle it.
    }
  }

  // The SDK's own handlers, which a user may add, carry this mark and do not count each other as the application's.
  const uncaught = Object.assign(onUncaught, { _errorHandler: true })
  function onUncaught(thrown: unknown): void {
    if (dying) return
    const isHandled = process.listeners('uncaughtException').some((other) => !isOfSentry(other))
    captureSafely(thrown, isHandled ? 'error' : 'fatal')
    if (isHandled) return
    dying = true
    // Node neither prints the error nor exits while there is a listener.
    print(thrown)
    void flush().finally(() => process.exit(1))
  }

  // Node makes a rejection an uncaught exception unless somebody listens to it: so we do only beside another.
  // https://nodejs.org/api/process.html#event-unhandledrejection
  function onRejection(reason: unknown): void {
    captureSafely(reason, 'error')
  }
  function hasOthers(): boolean {
    return process.listeners('unhandledRejection').some((other) => other !== onRejection)
  }
  function listen(): void {
    if (!process.listeners('unhandledRejection').includes(onRejection)) process.on('unhandledRejection', onRejection)
  }
  function added(event: string | symbol, other: unknown): void {
    if (event === 'unhandledRejection' && other !== onRejection) listen()
  }
  function removed(event: string | symbol): void {
    if (event === 'unhandledRejection' && !hasOthers()) process.off('unhandledRejection', onRejection)
  }

  // First, because a listener that is there once is gone when the next one looks for it.
  process.prependListener('uncaughtException', uncaught)
  process.on('newListener', added)
  process.on('removeListener', removed)
  if (hasOthers()) listen()
  return {
    stop() {
      process.off('uncaughtException', uncaught)
      process.off('newListener', added)
      process.off('removeListener', removed)
      process.off('unhandledRejection', onRejection)
    }
  }
}

function print(thrown: unknown): void {
  try {
    console.error(thrown)
  } catch {
    console.error('an uncaught exception that cannot be shown')
  }
}

function isOfSentry(listener: object): boolean {
  return '_errorHandler' in listener || ('name' in listener && listener.name === 'domainUncaughtExceptionClear')
}
