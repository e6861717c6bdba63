import type {
  Exemplar,
  HistogramPoint,
  Metric,
  NumberPoint,
  SummaryPoint,
  TemporalityPreference
} from '@fastify-observability/otlp'
import type { Family, Sample } from '../exposition/format.ts'
import { type Convention, conventionOf } from './conventions.ts'
import { openWindows, type Window } from './windows.ts'

/** Turns the metrics of a collection into those of OTLP. */
export type PointSource = (families: readonly Family[], preference: TemporalityPreference, timeMs: number) => Metric[]

export interface PointSourceOptions {
  /** When the app began to measure. */
  startTimeMs: number
  /** The `url.scheme` of the app's requests. */
  scheme: 'http' | 'https'
}

/** Samples that differ in their bound, their quantile or their ending only. */
interface Group {
  labels: Sample['labels']
  /** By bound or quantile. */
  parts: { limit: number; value: number; exemplar: Sample['exemplar'] }[]
  sum: number
  count: number
}

// In OTLP the resource is what describes the target.
const TARGET = 'target_info'

/** Makes the function that turns collections into points; between them it keeps what deltas and start times need. */
export function createPointSource({ startTimeMs, scheme }: PointSourceOptions): PointSource {
  const windows = openWindows(startTimeMs)

  function sums(family: Family, convention: Convention, isDelta: boolean, timeMs: number): NumberPoint[] {
    return finite(family.values).flatMap(({ labels, value, exemplar }) => {
      const window = windows.next(family.name, JSON.stringify(labels), [value], 1, isDelta)
      const [change = 0] = window.values
      if (isDelta && change === 0) return []
      const exemplars = newExemplars([exemplar], window)
      return [
        {
          attributes: convention.attributesOf(labels, scheme),
          startTimeMs: window.startTimeMs,
          timeMs,
          value: change,
          exemplars
        }
      ]
    })
  }

  function histograms(family: Family, convention: Convention, isDelta: boolean, timeMs: number): HistogramPoint[] {
    return groups(family, 'le').flatMap(({ labels, parts, sum }) => {
      const counts = parts.map(({ value }, index) => value - (parts[index - 1]?.value ?? 0))
      // The bounds too: buckets that were declared anew are another series.
      const key = JSON.stringify([labels, parts.map(({ limit }) => limit)])
      // Negative observations lower the sum.
      const window = windows.next(family.name, key, [...counts, sum], counts.length, isDelta)
      const bucketCounts = window.values.slice(0, counts.length)
      const count = bucketCounts.reduce((total, value) => total + value, 0)
      if (isDelta && count === 0) return []
      const exemplars = newExemplars(
        parts.map(({ exemplar }) => exemplar),
        window
      )
      return [
        {
          attributes: convention.attributesOf(labels, scheme),
          startTimeMs: window.startTimeMs,
          timeMs,
          count,
          sum: window.values.at(-1) ?? 0,
          bucketCounts,
          explicitBounds: parts.map(({ limit }) => limit).filter(Number.isFinite),
          exemplars
        }
      ]
    })
  }

  function gauges(family: Family, { attributesOf }: Convention, timeMs: number): NumberPoint[] {
    return finite(family.values).map(({ labels, value }) => ({
      attributes: attributesOf(labels, scheme),
      timeMs,
      value
    }))
  }

  function summaries(family: Family, { attributesOf }: Convention, timeMs: number): SummaryPoint[] {
    return groups(family, 'quantile').map(({ labels, parts, sum, count }) => ({
      attributes: attributesOf(labels, scheme),
      startTimeMs,
      timeMs,
      count,
      sum,
      quantiles: parts.map(({ limit, value }) => ({ quantile: limit, value }))
    }))
  }

  function metricOf(family: Family, preference: TemporalityPreference, timeMs: number): Metric {
    const { help: description, type, isObserved = false } = family
    const convention = conventionOf(family)
    const head = { name: convention.name, description, unit: convention.unit }
    const isDelta = preference === 'delta' || (preference === 'lowmemory' && !isObserved)
    const temporality = isDelta ? 'delta' : 'cumulative'
    if (type === 'histogram') {
      return { ...head, type, temporality, points: histograms(family, convention, isDelta, timeMs) }
    }
    if (type === 'counter') {
      const points = sums(family, convention, isDelta, timeMs)
      return { ...head, type: 'sum', isMonotonic: true, temporality, points }
    }
    if (type === 'summary') return { ...head, type, points: summaries(family, convention, timeMs) }
    const points = gauges(family, convention, timeMs)
    if (!convention.isUpDown) return { ...head, type: 'gauge', points }
    // What goes up and down is cumulative, whatever is preferred.
    const started = points.map((point) => ({ ...point, startTimeMs }))
    return { ...head, type: 'sum', isMonotonic: false, temporality: 'cumulative', points: started }
  }

  return (families, preference, timeMs) => {
    const metrics: Metric[] = []
    windows.begin(timeMs)
    for (const family of families) {
      if (family.name === TARGET) continue
      const metric = metricOf(family, preference, timeMs)
      windows.sweep(family.name)
      if (metric.points.length > 0) metrics.push(metric)
    }
    return metrics
  }
}

/** The samples of a histogram or a summary by series, their bounds or quantiles in order. */
function groups({ name, values }: Family, limitLabel: 'le' | 'quantile'): Group[] {
  const groups = new Map<string, Group>()
  for (const { metricName = name, labels: all = {}, value, exemplar } of values) {
    const { [limitLabel]: limit, ...labels } = all
    const key = JSON.stringify(labels)
    const group = groups.get(key) ?? { labels, parts: [], sum: 0, count: 0 }
    groups.set(key, group)
    if (limit !== undefined) group.parts.push({ limit: limitOf(limit), value, exemplar })
    else if (metricName.endsWith('_sum')) group.sum = value
    else group.count = value
  }
  for (const { parts } of groups.values()) parts.sort((one, other) => (one.limit < other.limit ? -1 : 1))
  return [...groups.values()].filter(({ sum }) => Number.isFinite(sum))
}

function limitOf(limit: string | number): number {
  return limit === '+Inf' ? Number.POSITIVE_INFINITY : Number(limit)
}

function finite(samples: readonly Sample[]): Sample[] {
  return samples.filter(({ value }) => Number.isFinite(value))
}

/** Those taken since the last collection: the ones before were sent with it. */
function newExemplars(exemplars: readonly Sample['exemplar'][], { lastTimeMs }: Window): Exemplar[] {
  return exemplars.flatMap((exemplar) => {
    if (!exemplar) return []
    const { labelSet, value, timestamp = 0 } = exemplar
    const { trace_id: traceId, span_id: spanId } = labelSet
    const timeMs = timestamp * 1000
    if (typeof traceId !== 'string' || typeof spanId !== 'string' || timeMs < lastTimeMs) return []
    return [{ timeMs, value, traceId, spanId }]
  })
}
