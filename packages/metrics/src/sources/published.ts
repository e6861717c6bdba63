import type { Series } from '@fastify-observability/observation'
import client, { type Aggregator, type Registry } from '@prometheus-io/client'
import type { Family } from '../exposition/format.ts'
import { registerMetric } from '../instruments/factory.ts'
import { exactValues } from '../instruments/labels.ts'
import { synchronous } from './callback.ts'

/** Makes the function that registers the series published since its last call; an invalid one is reported. */
export function registerPublished(
  registry: Registry,
  published: readonly Series[],
  report: (error: unknown) => void
): () => void {
  let registered = 0
  return () => {
    for (const series of published.slice(registered)) {
      registered++
      const { name, help, labelNames } = series
      const aggregator = aggregatorOf(series)
      try {
        registerMetric(registry, client.Gauge, { name, help, labelNames, aggregator }, async () => familyOf(series))
      } catch (error) {
        report(error)
      }
    }
  }
}

/** @throws TypeError when a value is no number, or the labels of a sample are not those declared. */
function familyOf(series: Series): Family {
  const { name, help, type, labelNames, collect } = series
  const samples = collect()
  synchronous('collect', samples)
  const values = [...samples].map(([labels, value]) => {
    if (typeof value !== 'number') throw new TypeError(`collect must give numbers, got a value of type ${typeof value}`)
    const texts = exactValues(labelNames, labels)
    return { labels: Object.fromEntries(labelNames.map((label, index) => [label, texts[index]])), value }
  })
  return { name, help, type, aggregator: aggregatorOf(series), isObserved: true, values }
}

// Of several processes: as healthy as the least healthy, as slow as the slowest.
function aggregatorOf({ name, type }: Series): Aggregator {
  if (type === 'counter') return 'sum'
  if (name.endsWith('_info')) return 'first'
  if (name.endsWith('_up')) return 'min'
  return name.endsWith('_seconds') ? 'max' : 'sum'
}
