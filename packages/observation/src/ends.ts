import { setImmediate } from 'node:timers'
import { runOutside } from './scope.ts'

// What apps have put off until the event loop has come round.
const waiting = new Set<() => void>()
let isHeard = false

/** Calls the function soon: when the event loop has come round, or the process ends. */
export function soon(tell: () => void): void {
  if (waiting.size === 0) runOutside(setImmediate, tellNow)
  waiting.add(tell)
  if (isHeard) return
  isHeard = true
  // Before the logs write what they hold.
  process.prependListener('exit', tellNow)
}

/** Calls now what would have been called soon. */
export function tellNow(): void {
  for (const tell of waiting) {
    waiting.delete(tell)
    tell()
  }
}
