type Heard = (thrown: unknown, level: 'fatal' | 'error') => void

/**
 * Hears of uncaught exceptions and unhandled rejections, and leaves it to Node and the application whether they end the
 * process. One that does is heard of first and ends it when `flush` has settled.
 */
export function watchCrashes(heard: Heard, flush: () => Promise<unknown>): { stop(): void } {
  let dying = false

  // What is thrown here would end the process, with another code.
  function tell(thrown: unknown, level: 'fatal' | 'error'): void {
    try {
      heard(thrown, level)
    } catch {
      // It stays the application's, and Node's.
    }
  }

  // The SDK's own handlers, which a user may add, carry this mark and do not count each other as the application's.
  const uncaught = Object.assign(onUncaught, { _errorHandler: true })
  function onUncaught(thrown: unknown): void {
    if (dying) return
    const isHandled = process.listeners('uncaughtException').some((other) => !isOfSentry(other))
    tell(thrown, isHandled ? 'error' : 'fatal')
    if (isHandled) return
    dying = true
    // With a listener, Node leaves both to it.
    print(thrown)
    void flush().finally(() => process.exit(1))
  }

  // Node makes a rejection an uncaught exception unless somebody listens to it: so we do only beside another.
  // https://nodejs.org/api/process.html#event-unhandledrejection
  function onRejection(reason: unknown): void {
    tell(reason, 'error')
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
