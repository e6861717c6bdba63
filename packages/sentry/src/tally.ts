import type { ObservationRegistry } from '@fastify-observability/observation'

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

export function publishTally({ publish }: ObservationRegistry, tally: Tally): void {
  publish({
    name: 'sentry_events_total',
    help: 'Error events that Sentry has taken.',
    type: 'counter',
    labelNames: [],
    collect: () => [[[], tally.sent]]
  })
  publish({
    name: 'sentry_events_dropped_total',
    help: 'Error events given up.',
    type: 'counter',
    labelNames: ['reason'],
    collect: () => Array.from(tally.dropped, ([reason, count]) => [[reason], count] as const)
  })
}
