import { types } from 'node:util'

export interface CapOptions {
  maxEventsPerMinute: number
  maxEqualEventsPerMinute: number
}

/** Says why an event must not be sent now, `undefined` if it may: then it counts. */
export type Cap = (fingerprint: string, isFatal: boolean) => 'rate_limit' | 'fingerprint_limit' | undefined

const MINUTE_MS = 60_000

/** Lets so many events through in any minute, and so many of them with one fingerprint. */
export function createCap({ maxEventsPerMinute, maxEqualEventsPerMinute }: CapOptions): Cap {
  const admitted: { at: number; fingerprint: string }[] = []

  return (fingerprint, isFatal) => {
    const now = performance.now()
    while (admitted[0] && now - admitted[0].at >= MINUTE_MS) admitted.shift()
    // What ends the process tends to come after a storm, and is the event that explains it.
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
