import { isRecord, type ServiceOptions, serviceSchema } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import * as v from 'valibot'
import { LABEL_NAME } from './instruments/factory.ts'
import { isAscending } from './instruments/histogram.ts'
import type { CustomLabel } from './sources/requests.ts'

/** Options of the metrics part. */
export interface MetricsOptions {
  /** Who the telemetry is about. @default what the environment and package.json say */
  service?: ServiceOptions
  /** Where Prometheus scrapes. @default '/metrics' */
  path?: string
  /** Another app that serves the path instead of this one. @default none */
  management?: FastifyInstance
  /** Upper bounds in seconds of request durations and times to first byte. @default those of the semantic conventions */
  durationBuckets?: readonly number[]
  /** Upper bounds of the sizes of bodies, in bytes. @default 100 to 10,000,000 in powers of ten */
  bodySizeBuckets?: readonly number[]
  /** `true`: `2xx` instead of `200`. @default false */
  groupStatusCodes?: boolean
  /** Requests left out of the metrics: paths, routes, all below a path (`/internal/*`), expressions. @default [] */
  exclude?: readonly (string | RegExp)[]
  /** Further labels of the request duration, by name. @default {} */
  customLabels?: Readonly<Record<string, CustomLabel>>
  /** Label sets of one metric; further ones go to `__overflow__`. @default 2000 */
  maxSeries?: number
  /** Values of one label of one metric; further ones go to `__overflow__`. @default 500 */
  maxLabelValues?: number
  /** Measures calls to other services; hosts that are not listed are `_OTHER`. @default false */
  outgoing?:
    | {
        /** Names of hosts, each of which becomes a value of the label `server_address`. */
        hosts: readonly string[]
      }
    | false
  /**
   * Pushes all of `/metrics` over OTLP too, with `@fastify-observability/otlp`.
   * @default whether OTEL_METRICS_EXPORTER names `otlp`
   */
  otlp?: boolean
}

const PATH_RULE = 'a path that starts with "/"'
const BUCKETS_RULE = 'ascending numbers'
const COUNT_RULE = 'a positive whole number'
const LABELS_RULE = 'functions by the names of labels'
const buckets = v.optional(v.custom<readonly number[]>(isBuckets, BUCKETS_RULE))
const count = v.optional(v.pipe(v.number(COUNT_RULE), v.integer(COUNT_RULE), v.minValue(1, COUNT_RULE)))

export const pathSchema = v.optional(v.pipe(v.string(PATH_RULE), v.startsWith('/', PATH_RULE)))

export const schema = v.strictObject({
  service: serviceSchema,
  path: pathSchema,
  management: v.optional(v.custom<FastifyInstance>((value) => isRecord(value) && 'listen' in value, 'a Fastify app')),
  durationBuckets: buckets,
  bodySizeBuckets: buckets,
  groupStatusCodes: v.optional(v.boolean()),
  exclude: v.optional(
    v.array(v.union([v.string(), v.instance(RegExp)], 'paths or expressions'), 'paths or expressions')
  ),
  customLabels: v.optional(
    v.record(
      v.pipe(v.string(), v.regex(LABEL_NAME, LABELS_RULE)),
      v.custom<CustomLabel>((value) => typeof value === 'function', LABELS_RULE),
      LABELS_RULE
    )
  ),
  maxSeries: count,
  maxLabelValues: count,
  outgoing: v.optional(
    v.union([v.literal(false), v.strictObject({ hosts: v.array(v.string()) })], 'false or { hosts: [names] }')
  ),
  otlp: v.optional(v.boolean())
})

export function isBuckets(value: unknown): boolean {
  return Array.isArray(value) && isAscending(value)
}
