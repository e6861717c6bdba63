import { currentObservation } from '@fastify-observability/observation'
import { elapsedMs } from '@fastify-observability/observation/internal'
import type { Sample } from '../exposition/format.ts'
import {
  exemplarOf,
  Instrument,
  type InstrumentContext,
  type InstrumentOptions,
  isLabels,
  UNLABELLED
} from './instrument.ts'
import { type Labels, mergedLabels } from './labels.ts'
import { HistogramSeries } from './series.ts'

/** What a histogram is made from. */
export interface HistogramOptions<Label extends string = never> extends InstrumentOptions<Label> {
  /** Upper bounds, ascending. @default the request duration's, in seconds */
  buckets?: readonly number[]
}

/** @see https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration */
export const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

/** A distribution. A value that is not a finite number is counted as dropped, and never thrown. */
export class Histogram<Label extends string = never> extends Instrument<Label, HistogramSeries> {
  /** As Prometheus calls it. */
  readonly type = 'histogram'
  /** Upper bounds, ascending; values above the last are counted too. */
  readonly buckets: readonly number[]

  constructor(options: HistogramOptions<Label>, context: InstrumentContext) {
    const { buckets = DURATION_BUCKETS } = options
    super(options, context, () => new HistogramSeries(buckets))
    this.buckets = buckets
  }

  /** Counts a value of the histogram without labels. */
  observe(value: number): void
  /** Counts a value of the histogram with these labels. */
  observe(labels: Labels<Label>, value: number): void
  observe(first: Labels<Label> | number, value = Number.NaN): void {
    if (isLabels(first)) this.add(first, value)
    else this.add(UNLABELLED, first)
  }

  /** Observes the seconds until the returned function is called, which returns them. */
  startTimer(labels?: Labels<Label>): (more?: Labels<Label>) => number {
    const startedAt = performance.now()
    return (more) => {
      const seconds = elapsedMs(startedAt) / 1000
      this.add(mergedLabels(labels, more), seconds)
      return seconds
    }
  }

  /** The histogram with these labels. */
  labels(labels: Labels<Label>): {
    /** Counts a value of it. */
    observe(value: number): void
  } {
    return { observe: (value) => this.observe(labels, value) }
  }

  protected override samples(series: HistogramSeries, labels: Sample['labels']): Sample[] {
    const { bounds, counts, exemplars, sum } = series
    const metricName = `${this.name}_bucket`
    let count = 0
    const samples: Sample[] = Array.from(counts, (inBucket, index) => {
      count += inBucket
      const exemplar = exemplarOf(exemplars[index])
      return { metricName, labels: { ...labels, le: bounds[index] ?? '+Inf' }, value: count, exemplar }
    })
    samples.push(
      { metricName: `${this.name}_sum`, labels, value: sum },
      { metricName: `${this.name}_count`, labels, value: count }
    )
    return samples
  }

  private add(labels: unknown, value: number): void {
    if (this.isFinite(value)) this.find(labels)?.observe(value, currentObservation()?.spanContext)
  }
}

/** Whether these can be the bounds of a histogram. */
export function isAscending(buckets: readonly number[]): boolean {
  return (
    buckets.length > 0 && buckets.every((bound, at) => Number.isFinite(bound) && bound > (buckets[at - 1] ?? -Infinity))
  )
}
