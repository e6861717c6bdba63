import type { Series } from '@fastify-observability/observation'
import { atMostEvery, countBy, withDocs } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import type { DropReason, InstrumentContext } from './instruments/instrument.ts'

const MINUTE_MS = 60_000

/** Counts and logs the values that metrics drop or count as overflow. */
export function countLosses(app: FastifyInstance): Pick<InstrumentContext, 'dropped' | 'overflowed'> & {
  series: Series[]
} {
  const overflows = countBy('metric')
  const drops = new Map<string, { metric: string; reason: DropReason; count: number }>()
  const mayLogDrop = atMostEvery(MINUTE_MS)

  return {
    overflowed(metric) {
      if (overflows.get(metric) === 0) {
        app.log.warn(
          withDocs('metrics-left-out', { metric }),
          'metrics: series limit reached, further label sets go to __overflow__'
        )
      }
      overflows.add(metric)
    },
    dropped(metric, reason) {
      const key = `${metric} ${reason}`
      const drop = drops.get(key) ?? { metric, reason, count: 0 }
      drop.count++
      drops.set(key, drop)
      if (mayLogDrop())
        app.log.warn(withDocs('metrics-left-out', { metric, reason }), 'metrics: dropped an invalid value of a metric')
    },
    series: [
      {
        name: 'metrics_series_overflow_total',
        help: 'Values counted under __overflow__ because their metric had reached a series limit.',
        type: 'counter',
        labelNames: ['metric'],
        collect: overflows.collect
      },
      {
        name: 'metrics_values_dropped_total',
        help: 'Invalid values dropped.',
        type: 'counter',
        labelNames: ['metric', 'reason'],
        collect: () => Array.from(drops.values(), ({ metric, reason, count }) => [{ metric, reason }, count] as const)
      }
    ]
  }
}
