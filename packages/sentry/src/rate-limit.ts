import { types } from 'node:util'

export interface RateLimitOptions {
  maxEventsPerMinute: number
  maxEqualEventsPerMinute: number
}

/** Why an event must not be sent now; `undefined` if it may, which counts it. */
export type RateLimit = (fingerprint: string, isFatal: boolean) => 'rate_limit' | 'fingerprint_limit' | undefined

const MINUTE_MS = 60_000

/** At most `maxEventsPerMinute` events a minute, and `maxEqualEventsPerMinute` of them with one fingerprint. */
export function createRateLimit({ maxEventsPerMinute, maxEqualEventsPerMinute }: RateLimitOptions): RateLimit {
  const admitted: { at: number; fingerprint: string }[] = []

  return (fingerprint, isFatal) => {
    const now = performance.now()
    while (admitted[0] && now - admitted[0].at >= MINUTE_MS) admitted.shift()
    // The error that ends the process tends to come after many others, and explains them.
    if (admitted.length >= maxEventsPerMinute && !isFatal) return 'rate_limit'
    const equal = admitted.filter((event) => event.fingerprint === fingerprint)
    if (equal.length >= maxEqualEventsPerMinute) return 'fingerprint_limit'
    admitted.push({ at: now, fingerprint })
    return undefined
  }
}

/** What makes two errors equal: class, code and the place that threw. Their messages may differ. */
export function fingerprintOf(thrown: unknown): string {
  try {
    if (!types.isNativeError(thrown)) return typeof thrown
    const code = 'code' in thrown ? String(thrown.code) : ''
    const [place = ''] = /^[ \t]+at .*$/m.exec(String(thrown.stack)) ?? []
    return `${thrown.name} ${code} ${place}`
  } catch {
    return 'unreadable'
  }
}
