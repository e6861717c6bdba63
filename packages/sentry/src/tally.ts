import type { Registry } from '@fastify-observability/observation/internal'
import type { NodeClient } from '@sentry/node'

/** What became of the error events. */
export interface Tally {
  sent: number
  readonly dropped: ReadonlyMap<string, number>
  drop(reason: string, count?: number): void
}

export function createTally(): Tally {
  const dropped = new Map<string, number>()
  return {
    sent: 0,
    dropped,
    drop: (reason, count = 1) => void dropped.set(reason, (dropped.get(reason) ?? 0) + count)
  }
}

export function publishTally({ publish }: Registry, tally: Tally): void {
  publish({
    name: 'sentry_events_total',
    help: 'Error events that Sentry has taken.',
    type: 'counter',
    labelNames: [],
    collect: () => [[{}, tally.sent]]
  })
  publish({
    name: 'sentry_events_dropped_total',
    help: 'Error events given up.',
    type: 'counter',
    labelNames: ['reason'],
    collect: () => Array.from(tally.dropped, ([reason, count]) => [{ reason }, count] as const)
  })
}

/** Counts how the ingest answers; of a client that is not ours, also that it could not be asked. */
export function countResponses(client: NodeClient, tally: Tally, isForeign: boolean): void {
  client.on('afterSendEvent', ({ type }, { statusCode }) => {
    if (type !== undefined) return
    if (statusCode === undefined) {
      // Why not, only our own transport says.
      if (isForeign) tally.drop('not_sent')
    } else if (statusCode >= 200 && statusCode < 300) tally.sent++
    else tally.drop(`http_${statusCode}`)
  })
}

/** Counts what the SDK itself gives up before it sends; `except` skips one that has been counted. */
export function countDrops(client: NodeClient, tally: Tally): { except(): void } {
  const record = client.recordDroppedEvent.bind(client)
  let counted = false
  client.recordDroppedEvent = (reason, category, count) => {
    record(reason, category, count)
    if (category !== 'error' && category !== 'unknown') return
    if (!counted) tally.drop(reason, count)
    counted = false
  }
  return {
    except() {
      counted = true
    }
  }
}
