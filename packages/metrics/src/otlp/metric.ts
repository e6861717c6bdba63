import type { Attributes } from './conventions.ts'

export type Temporality = 'cumulative' | 'delta'

/** @see https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration */
export type TemporalityPreference = Temporality | 'lowmemory'

/**
 * The values of one name, as OTLP has them; times are milliseconds since 1970.
 * @see https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/metrics/v1/metrics.proto
 */
export type Metric = { name: string; description: string; unit: string } & (
  | { type: 'gauge'; points: NumberPoint[] }
  | { type: 'sum'; isMonotonic: boolean; temporality: Temporality; points: NumberPoint[] }
  | { type: 'histogram'; temporality: Temporality; points: HistogramPoint[] }
  | { type: 'summary'; points: SummaryPoint[] }
)

interface Point {
  attributes: Attributes
  startTimeMs?: number
  timeMs: number
}

export interface NumberPoint extends Point {
  value: number
  exemplars?: Exemplar[]
}

export interface HistogramPoint extends Point {
  count: number
  sum: number
  /** Of each bucket alone, one more than there are bounds. */
  bucketCounts: number[]
  explicitBounds: number[]
  exemplars?: Exemplar[]
}

export interface SummaryPoint extends Point {
  count: number
  sum: number
  quantiles: { quantile: number; value: number }[]
}

export interface Exemplar {
  timeMs: number
  value: number
  traceId: string
  spanId: string
}
