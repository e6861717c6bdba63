import { attributesOf } from './attributes.ts'
import { double, fixed64, hex, integer, message, text } from './protobuf.ts'
import { milliseconds } from './record.ts'

/** Values of one name, as OTLP has them. Times are milliseconds since 1970. */
export type Metric = MetricName & (Gauge | Sum | Histogram | Summary)

interface MetricName {
  name: string
  description?: string | undefined
  unit?: string | undefined
}
interface Gauge {
  type: 'gauge'
  points: readonly NumberPoint[]
}
interface Sum {
  type: 'sum'
  isMonotonic: boolean
  temporality: Temporality
  points: readonly NumberPoint[]
}
interface Histogram {
  type: 'histogram'
  temporality: Temporality
  points: readonly HistogramPoint[]
}
interface Summary {
  type: 'summary'
  points: readonly SummaryPoint[]
}

export type Temporality = 'cumulative' | 'delta'

interface Point {
  /** By name, as strings, numbers, booleans and lists of these. */
  attributes: Readonly<Record<string, unknown>>
  /** Since when the value has been counted, in milliseconds since 1970. @default unknown */
  startTimeMs?: number | undefined
  /** When the value was taken, in milliseconds since 1970. */
  timeMs: number
}
/** The value of a counter or gauge at a time. */
export interface NumberPoint extends Point {
  /** In the unit of the metric. */
  value: number
  /** @default none */
  exemplars?: readonly Exemplar[] | undefined
}
/** The state of a histogram at a time. */
export interface HistogramPoint extends Point {
  /** How many values there were. */
  count: number
  /** Of all values, in the unit of the metric. */
  sum: number
  /** Of each bucket alone, one more than there are bounds. */
  bucketCounts: readonly number[]
  /** Upper bounds of the buckets, ascending; the last bucket has none. */
  explicitBounds: readonly number[]
  /** @default none */
  exemplars?: readonly Exemplar[] | undefined
}
/** The quantiles of a summary at a time. */
export interface SummaryPoint extends Point {
  /** How many values there were. */
  count: number
  /** Of all values, in the unit of the metric. */
  sum: number
  /** Values that this share of all is not above. */
  quantiles: readonly {
    /** From 0 to 1. */
    quantile: number
    /** In the unit of the metric. */
    value: number
  }[]
}
/** A measurement that stands for the others of its series, with its trace. */
export interface Exemplar {
  /** Those that the point has not. @default none */
  attributes?: Readonly<Record<string, unknown>> | undefined
  /** When it was measured, in milliseconds since 1970. */
  timeMs: number
  /** In the unit of the metric. */
  value: number
  /** 32 hexadecimal digits. */
  traceId: string
  /** 16 hexadecimal digits. */
  spanId: string
}

const FIELDS = { gauge: 5, sum: 7, histogram: 9, summary: 11 }
const TEMPORALITIES = { delta: 1, cumulative: 2 }
// A request that is too large is halved between these messages.
const MAX_MESSAGE_BYTES = 32 * 1024

/**
 * The metric as Metric messages of some points each.
 * @param hasExemplars whether the points have theirs
 * @see https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/metrics/v1/metrics.proto
 */
export function* encodeMetric(metric: Metric, hasExemplars = true): Generator<{ content: string; points: number }> {
  const { name, description = '', unit = '', type } = metric
  const head = text(1, name) + text(2, description) + text(3, unit)
  const kind = kindOf(metric)
  let some = ''
  let points = 0
  for (const point of pointsOf(metric, hasExemplars)) {
    if (some !== '' && some.length + point.length > MAX_MESSAGE_BYTES) {
      yield { content: head + message(FIELDS[type], some + kind), points }
      some = ''
      points = 0
    }
    some += point
    points++
  }
  if (points > 0) yield { content: head + message(FIELDS[type], some + kind), points }
}

function pointsOf(metric: Metric, hasExemplars: boolean): string[] {
  const exemplars = <Point extends { exemplars?: readonly Exemplar[] | undefined }>(point: Point): Point =>
    hasExemplars ? point : { ...point, exemplars: [] }
  switch (metric.type) {
    case 'histogram':
      return metric.points.map((point) => message(1, histogramPoint(exemplars(point))))
    case 'summary':
      return metric.points.map((point) => message(1, summaryPoint(point)))
    default:
      return metric.points.map((point) => message(1, numberPoint(exemplars(point))))
  }
}

function kindOf(metric: Metric): string {
  if (!('temporality' in metric)) return ''
  const temporality = integer(2, TEMPORALITIES[metric.temporality])
  return metric.type === 'sum' ? temporality + integer(3, metric.isMonotonic ? 1 : 0) : temporality
}

function numberPoint({ attributes, value, exemplars = [], ...times }: NumberPoint): string {
  return timesOf(times) + double(4, value) + exemplarsOf(5, exemplars) + attributesOf(7, attributes)
}

function histogramPoint(point: HistogramPoint): string {
  const { attributes, count, sum, bucketCounts, explicitBounds, exemplars = [] } = point
  return (
    timesOf(point) +
    unsigned(4, count) +
    double(5, sum) +
    packed(6, bucketCounts, unsigned) +
    packed(7, explicitBounds, double) +
    exemplarsOf(8, exemplars) +
    attributesOf(9, attributes)
  )
}

function summaryPoint(point: SummaryPoint): string {
  const quantiles = point.quantiles.map(({ quantile, value }) => message(6, double(1, quantile) + double(2, value)))
  return (
    timesOf(point) +
    unsigned(4, point.count) +
    double(5, point.sum) +
    quantiles.join('') +
    attributesOf(7, point.attributes)
  )
}

function timesOf({ startTimeMs, timeMs }: Omit<Point, 'attributes'>): string {
  return (startTimeMs === undefined ? '' : milliseconds(2, startTimeMs)) + milliseconds(3, timeMs)
}

function exemplarsOf(field: number, exemplars: readonly Exemplar[]): string {
  const texts = exemplars.map(({ attributes = {}, timeMs, value, traceId, spanId }) =>
    message(
      field,
      milliseconds(2, timeMs) + double(3, value) + hex(4, spanId) + hex(5, traceId) + attributesOf(7, attributes)
    )
  )
  return texts.join('')
}

function unsigned(field: number, value: number): string {
  return fixed64(field, value >>> 0, Math.floor(value / 2 ** 32))
}

/** Numbers without their tags, which are a byte each. */
function packed(field: number, values: readonly number[], one: (field: number, value: number) => string): string {
  return message(field, values.map((value) => one(1, value).slice(1)).join(''))
}
