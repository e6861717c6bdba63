import { runInBackground } from './scope.ts'
import { within } from './time/deadline.ts'
import { monotonicMs } from './time/monotonic.ts'
import { turn } from './time/timers.ts'

/** What leaves the process, by the name of its items: log lines, spans, metric points and error events. */
export type Signal = 'lines' | 'spans' | 'points' | 'events'

/** What a flush could not deliver of one signal. */
export interface Undelivered {
  /** Items that were still held or on their way when the time was up; at least 1 where their number is not known. */
  pending: number
  /** Items that were dropped, and counted as such, while the flush went on. */
  dropped: number
}

/** What became of everything that was held when a flush began. A signal that is off has no entry. */
export interface FlushReport extends Readonly<Partial<Record<Signal, Undelivered>>> {
  /** Nothing is pending and nothing was dropped. */
  readonly complete: boolean
}

/** A part that holds items before they leave the process. */
export interface Holder {
  signal: Signal
  /** Resolves when what is held has been delivered or dropped, with `false` when some of it is left. */
  flush(timeoutMs: number): Promise<unknown>
  /** Writes what can be written without waiting. The process ends after it. */
  flushSync?(): void
  /** How many items are held now. Left out where nobody knows. */
  held?(): number
  /** How many items have been dropped so far. */
  dropped(): number
}

/** Everything that holds items, to be emptied together. */
export interface Holders {
  add(holder: Holder): void
  /** Has every part deliver what it holds; resolves at the latest after `timeoutMs`, never rejects. */
  flush(timeoutMs: number): Promise<FlushReport>
  /** Has every part write what it can without waiting, because the process ends now. Never throws. */
  flushSync(): void
}

// A part that gives up at its own deadline would seem to have finished.
const LATER_MS = 50

export function createHolders(): Holders {
  const holders: Holder[] = []

  async function flush(timeoutMs: number): Promise<FlushReport> {
    const deadline = monotonicMs() + timeoutMs
    // A client may have received the whole answer before Node reports that the response has closed.
    await turn()
    await turn()
    const left = Math.max(0, deadline - monotonicMs())
    const results = await Promise.all(holders.map((holder) => empty(holder, left)))
    const report: Partial<Record<Signal, Undelivered>> = {}
    for (const [index, { signal }] of holders.entries()) {
      const { pending = 0, dropped = 0 } = results[index] ?? {}
      const others = report[signal] ?? { pending: 0, dropped: 0 }
      report[signal] = { pending: others.pending + pending, dropped: others.dropped + dropped }
    }
    return { complete: Object.values(report).every(({ pending, dropped }) => pending + dropped === 0), ...report }
  }

  return {
    add: (holder) => void holders.push(holder),
    flush: (timeoutMs) => runInBackground(flush, timeoutMs),
    flushSync() {
      for (const { flushSync } of holders) {
        try {
          flushSync?.()
        } catch {
          // The others still have theirs to write.
        }
      }
    }
  }
}

async function empty({ flush, held, dropped }: Holder, timeoutMs: number): Promise<Undelivered> {
  const before = dropped()
  const isEmptied = await within(
    timeoutMs,
    attempt(() => flush(timeoutMs + LATER_MS))
  )
  const pending = isEmptied ? 0 : Math.max(1, held?.() ?? 1)
  return { pending, dropped: dropped() - before }
}

async function attempt(flush: () => Promise<unknown>): Promise<boolean> {
  try {
    return (await flush()) !== false
  } catch {
    return false
  }
}
