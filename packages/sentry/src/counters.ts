import {
  type Counts,
  countBy,
  type DeliveryReport,
  type Registry,
  sumOf
} from '@fastify-observability/observation/internal'
import type { NodeClient } from '@sentry/node'

/** What became of the error events. */
export interface Counters {
  accepted: number
  /** On their way. */
  waiting: number
  lastError: DeliveryReport['lastError']
  readonly dropped: Counts<'reason'>
  /** Called for each error event that the SDK drops before it sends it, in the scope of what has captured it. */
  readonly onDrop: Set<() => void>
}

export function createCounters(): Counters {
  const dropped = countBy('reason')
  const counters: Counters = {
    accepted: 0,
    waiting: 0,
    lastError: undefined,
    onDrop: new Set(),
    dropped: {
      ...dropped,
      add(reason, count) {
        counters.lastError = { reason, timeMs: Date.now() }
        dropped.add(reason, count)
      }
    }
  }
  return counters
}

export function deliveryOf({ accepted, dropped, waiting, lastError }: Counters, to: string): DeliveryReport {
  const lost = dropped.collect().map(([{ reason }, count]) => [reason, count] as const)
  const produced = accepted + waiting + sumOf(lost.map(([, count]) => count))
  return { signal: 'events', to, produced, delivered: accepted, dropped: Object.fromEntries(lost), waiting, lastError }
}

export function publishCounters({ publish }: Registry, counters: Counters): void {
  publish({
    name: 'sentry_events_total',
    help: 'Error events accepted by Sentry.',
    type: 'counter',
    labelNames: [],
    collect: () => [[{}, counters.accepted]]
  })
  publish({
    name: 'sentry_events_dropped_total',
    help: 'Error events dropped.',
    type: 'counter',
    labelNames: ['reason'],
    collect: counters.dropped.collect
  })
}

/** Counts the ingest's answers; of a client that is not ours, deliveries without an answer too. */
export function countResponses(client: NodeClient, counters: Counters, isForeign: boolean): void {
  client.on('afterSendEvent', ({ type }, { statusCode }) => {
    if (type !== undefined) return
    if (statusCode === undefined) {
      // The reason is known to our own transport only.
      if (isForeign) counters.dropped.add('not_sent')
    } else if (statusCode >= 200 && statusCode < 300) counters.accepted++
    else counters.dropped.add(`http_${statusCode}`)
  })
}

/** Counts what the SDK itself drops before it sends; `skipNext` leaves out one that has been counted. */
export function countDrops(client: NodeClient, counters: Counters): { skipNext(): void } {
  const record = client.recordDroppedEvent.bind(client)
  let isCounted = false
  client.recordDroppedEvent = (reason, category, count) => {
    record(reason, category, count)
    if (category !== 'error' && category !== 'unknown') return
    for (const onDrop of counters.onDrop) onDrop()
    if (!isCounted) counters.dropped.add(reason, count)
    isCounted = false
  }
  return {
    skipNext() {
      isCounted = true
    }
  }
}
