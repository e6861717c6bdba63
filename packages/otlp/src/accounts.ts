import type { Series } from '@fastify-observability/observation'
import { atMostEvery, type Counts, countBy } from '@fastify-observability/observation/internal'

/** Counts each item once: as delivered, or as dropped for a reason. */
export interface Accounts {
  /** Items that wait or are being exported. */
  held(): number
  take(items: number): void
  /** Items that are lost before they are handed to the exporter. */
  drop(reason: Dropped, items: number): void
  handOver(items: number): void
  delivered(items: number): void
  /** @param words what the log says of it. */
  lost(reason: Lost, items: number, words: string): void
  /** Counts what is held as lost, for good. What comes in later changes nothing. */
  close(): void
  state(): AccountState
  series: readonly Series[]
}

/** What became of the items so far: `produced = delivered + dropped + waiting`. */
export interface AccountState {
  readonly produced: number
  readonly delivered: number
  /** By reason. */
  readonly dropped: Readonly<Record<string, number>>
  readonly waiting: number
  readonly lastError: { readonly reason: string; readonly timeMs: number } | undefined
}

/** `held_full` is for spans only, and shown once it was counted. */
export type Dropped = (typeof DROPPED)[number] | 'held_full'
export type Lost = (typeof LOST)[number]

/** How a signal's items are called in series and logs. */
export interface Naming {
  /** As in `otel_sdk_exporter_span_exported_total`. */
  series: string
  /** As in `spans_lost`. */
  plural: string
  hasProcessor: boolean
}

const MINUTE_MS = 60_000
const DROPPED = ['queue_full', 'not_encodable', 'too_large', 'shutdown'] as const
const LOST = ['export_failed', 'rejected', 'too_large', 'shutdown'] as const

/** @param warn receives how many were lost since it was called last, at most once a minute and at the end. */
export function openAccounts(
  { series, plural, hasProcessor }: Naming,
  warn: (items: number, words: string) => void,
  onLoss: (reason: Dropped | Lost, items: number) => void = () => undefined
): Accounts {
  const processed = countBy('error_type', ['', ...DROPPED])
  const exported = countBy('error_type', ['', ...LOST])
  const mayWarn = atMostEvery(MINUTE_MS)
  let produced = 0
  let lastError: AccountState['lastError']
  let queued = 0
  let inFlight = 0
  let unsaid = { items: 0, words: '' }
  let isClosed = false

  function note(items: number, words: string): void {
    if (items === 0) return
    lastError = { reason: words, timeMs: Date.now() }
    unsaid = { items: unsaid.items + items, words }
    if (mayWarn()) report()
  }
  function report(): void {
    const { items, words } = unsaid
    if (items === 0) return
    unsaid = { items: 0, words: '' }
    try {
      warn(items, words)
    } catch {
      // A log on a full disk throws; nobody catches it here, and the items are counted anyway.
    }
  }
  function count(counts: Counts<'error_type'>, reason: Dropped | Lost, items: number): void {
    if (items === 0) return
    counts.add(reason, items)
    onLoss(reason, items)
  }

  const processing: Series[] = [
    {
      name: `otel_sdk_processor_${series}_processed_total`,
      help: `Handed to the exporter, and with a reason dropped before it: ${plural}.`,
      type: 'counter',
      labelNames: ['error_type'],
      collect: processed.collect
    },
    {
      name: `otel_sdk_processor_${series}_queue_size`,
      help: `Waiting for the exporter or being exported: ${plural}.`,
      type: 'gauge',
      labelNames: [],
      collect: () => [[{}, queued + inFlight]]
    }
  ]
  return {
    held: () => queued + inFlight,
    take(items) {
      produced += items
      queued += items
    },
    drop(reason, items) {
      produced += items
      count(processed, reason, items)
      note(items, reason)
    },
    handOver(items) {
      queued -= items
      inFlight += items
      processed.add('', items)
    },
    delivered(items) {
      if (isClosed) return
      inFlight -= items
      exported.add('', items)
    },
    lost(reason, items, words) {
      if (isClosed) return
      inFlight -= items
      count(exported, reason, items)
      note(items, words)
    },
    close() {
      if (isClosed) return
      isClosed = true
      count(processed, 'shutdown', queued)
      count(exported, 'shutdown', inFlight)
      if (queued + inFlight > 0) unsaid = { items: unsaid.items + queued + inFlight, words: 'shutdown' }
      queued = inFlight = 0
      // Nobody will scrape the counters any more.
      report()
    },
    state: () => ({
      produced,
      delivered: exported.get(''),
      dropped: lossesOf(processed, exported),
      waiting: queued + inFlight,
      lastError
    }),
    series: [
      {
        name: `otel_sdk_exporter_${series}_exported_total`,
        help: `Whose export has ended, with the reason for those that were lost: ${plural}.`,
        type: 'counter',
        labelNames: ['error_type'],
        collect: exported.collect
      },
      ...(hasProcessor ? processing : [])
    ]
  }
}

function lossesOf(...counters: readonly Counts<'error_type'>[]): Record<string, number> {
  const losses: Record<string, number> = {}
  for (const [{ error_type: reason }, count] of counters.flatMap((counts) => counts.collect())) {
    if (reason !== '' && count > 0) losses[reason] = (losses[reason] ?? 0) + count
  }
  return losses
}
