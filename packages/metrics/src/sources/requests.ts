import type { Outcome } from '@fastify-observability/observation'
import type { PartObserver, RequestObservation } from '@fastify-observability/observation/internal'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Factory } from '../instruments/factory.ts'
import { DURATION_BUCKETS } from '../instruments/histogram.ts'
import { labelText } from '../instruments/labels.ts'
import { HistogramSeries, isSampled, type ScalarSeries } from '../instruments/series.ts'
import { synchronous } from './callback.ts'

/** Returns the value of a label of the request duration, called when the response has closed. */
export type CustomLabel = (request: FastifyRequest, reply: FastifyReply) => string | undefined

export interface RequestMetricsOptions {
  durationBuckets: readonly number[] | undefined
  bodySizeBuckets: readonly number[] | undefined
  groupStatusCodes: boolean
  exclude: readonly (string | RegExp)[]
  customLabels: Readonly<Record<string, CustomLabel>>
}

/** The series of one method of one route, looked up once. */
interface RouteSeries {
  readonly active: ScalarSeries
  readonly firstByte: HistogramSeries
  readonly requestBody: HistogramSeries
  readonly responseBody: HistogramSeries
  readonly hasDuration: boolean
  readonly buckets: readonly number[] | undefined
  /** By status, of requests without an error. */
  readonly durations: Map<number, HistogramSeries>
}

// On Node's object: a request ends with the series that it has begun with, whatever becomes of its URL.
const SERIES: unique symbol = Symbol('fastify-observability.metrics')
const NAME = '@fastify-observability/metrics'
const SIZE_BUCKETS = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]
const SWITCHING_PROTOCOLS = 101

declare module 'node:http' {
  interface IncomingMessage {
    [SERIES]?: RouteSeries | undefined
  }
}

const ROUTE_LABELS = ['http_request_method', 'http_route'] as const
const DURATION_LABELS = [...ROUTE_LABELS, 'http_response_status_code', 'error_type'] as const

type RouteLabels = Readonly<Record<(typeof ROUTE_LABELS)[number], string>>
type DurationLabels = Readonly<Record<(typeof DURATION_LABELS)[number], string>>

/** Declares the metrics of requests and returns the observer that keeps them. */
export function observeRequests(
  { gauge, histogram }: Factory,
  options: RequestMetricsOptions,
  report: (error: unknown) => void
): PartObserver {
  const { groupStatusCodes, customLabels, durationBuckets = DURATION_BUCKETS, bodySizeBuckets = SIZE_BUCKETS } = options
  const isExcluded = pathMatcher(options.exclude)
  const custom = Object.entries(customLabels)
  const noCustomLabels = Object.fromEntries(custom.map(([name]) => [name, '']))
  const labelNames = ROUTE_LABELS
  const duration = histogram({
    name: 'http_server_request_duration_seconds',
    help: 'Duration of HTTP server requests.',
    labelNames: [...DURATION_LABELS, ...Object.keys(customLabels)],
    buckets: durationBuckets
  }).series
  const firstByte = histogram({
    name: 'http_server_time_to_first_byte_seconds',
    help: 'Time from the arrival of HTTP server requests to their response headers.',
    labelNames,
    buckets: durationBuckets
  }).series
  const active = gauge({
    name: 'http_server_active_requests',
    help: 'HTTP server requests in progress.',
    labelNames
  }).series
  const requestBody = histogram({
    name: 'http_server_request_body_size_bytes',
    help: 'Size of HTTP server request bodies.',
    labelNames,
    buckets: bodySizeBuckets
  }).series
  const responseBody = histogram({
    name: 'http_server_response_body_size_bytes',
    help: 'Size of HTTP server response bodies.',
    labelNames,
    buckets: bodySizeBuckets
  }).series
  const sets = [duration, firstByte, active, requestBody, responseBody]
  const routes = new Map<string, Map<string, RouteSeries>>()
  let removals = 0

  function seriesOf({ method, route, config }: RequestObservation): RouteSeries | undefined {
    let now = 0
    for (const set of sets) now += set.removals
    if (now !== removals) routes.clear()
    removals = now
    const known = routes.get(route)?.get(method)
    if (known) return known
    if (config.metrics === false) return undefined
    const { duration: hasDuration = true, durationBuckets: buckets } = config.metrics ?? {}
    const labels: RouteLabels = { http_request_method: method, http_route: route }
    const series: RouteSeries = {
      active: active.get(labels),
      firstByte: firstByte.get(labels, buckets && (() => new HistogramSeries(buckets))),
      requestBody: requestBody.get(labels),
      responseBody: responseBody.get(labels),
      hasDuration,
      buckets,
      durations: new Map()
    }
    const methods = routes.get(route) ?? new Map<string, RouteSeries>()
    // The one for overflow is not kept: there is no end to the routes that would point to it.
    if (active.isOwn(series.active, labels)) routes.set(route, methods.set(method, series))
    return series
  }

  function durationOf(
    series: RouteSeries,
    observation: RequestObservation,
    { statusCode, errorType }: Outcome
  ): HistogramSeries {
    const isPlain = errorType === undefined && custom.length === 0
    const known = isPlain ? series.durations.get(statusCode) : undefined
    if (known) return known
    const { buckets } = series
    const labels = durationLabels(observation.method, observation.route, statusCode, errorType)
    const all = custom.length === 0 ? labels : { ...labels, ...customValues(observation) }
    const found = duration.get(all, buckets && (() => new HistogramSeries(buckets)))
    if (isPlain && duration.isOwn(found, all)) series.durations.set(statusCode, found)
    return found
  }

  function durationLabels(
    method: string,
    route: string,
    statusCode: number,
    errorType: string | undefined
  ): DurationLabels {
    return {
      http_request_method: method,
      http_route: route,
      http_response_status_code: statusLabel(statusCode),
      error_type: errorType ?? ''
    }
  }

  function customValues({ request, reply }: RequestObservation): Record<string, string> {
    if (!request || !reply) return noCustomLabels
    const values: Record<string, string> = {}
    for (const [name, label] of custom) values[name] = customValue(name, label, request, reply)
    return values
  }

  function customValue(name: string, label: CustomLabel, request: FastifyRequest, reply: FastifyReply): string {
    try {
      const value = synchronous(`customLabels.${name}`, label(request, reply))
      if (value !== undefined && value !== null && !isText(value)) {
        throw new TypeError(`customLabels.${name} must return a string, got a value of type ${typeof value}`)
      }
      return labelText(value)
    } catch (error) {
      report(error)
      return ''
    }
  }

  function statusLabel(statusCode: number): string {
    return groupStatusCodes ? `${Math.floor(statusCode / 100)}xx` : String(statusCode)
  }

  return {
    name: NAME,
    start(observation) {
      if (isExcluded?.(observation)) return
      const series = seriesOf(observation)
      if (series === undefined) return
      observation.raw[SERIES] = series
      series.active.value++
    },
    end(observation, outcome) {
      const series = observation.raw[SERIES]
      if (series === undefined) return
      observation.raw[SERIES] = undefined
      series.active.value--
      const { spanContext } = observation
      // Once for all four, because it is a call into the engine.
      const now = spanContext && isSampled(spanContext) ? Date.now() : undefined
      const { statusCode, durationMs, ttfbMs, requestBytes, responseBytes } = outcome
      if (ttfbMs !== undefined) series.firstByte.observe(ttfbMs / 1000, spanContext, now)
      series.requestBody.observe(requestBytes, spanContext, now)
      series.responseBody.observe(responseBytes, spanContext, now)
      if (!series.hasDuration) return
      // The life of an upgraded connection is no latency: its client has waited for the upgrade only.
      const ms = statusCode === SWITCHING_PROTOCOLS ? (ttfbMs ?? durationMs) : durationMs
      durationOf(series, observation, outcome).observe(ms / 1000, spanContext, now)
    },
    malformed({ statusCode, errorType }) {
      duration.get({ ...durationLabels('_OTHER', 'unmatched', statusCode, errorType), ...noCustomLabels }).observe(0)
    }
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
}

/** Matches the rules of `exclude`: a path, all below one (`/internal/*`), a route, an expression. */
function pathMatcher(
  exclude: readonly (string | RegExp)[]
): ((observation: RequestObservation) => boolean) | undefined {
  if (exclude.length === 0) return undefined
  const exact = new Set(exclude.filter((rule) => typeof rule === 'string'))
  const prefixes = [...exact].flatMap((rule) => (rule.endsWith('/*') ? [rule.slice(0, -1)] : []))
  // Without the flags that make an expression remember where it stopped.
  const expressions = exclude.flatMap((rule) =>
    rule instanceof RegExp ? [new RegExp(rule.source, rule.flags.replace(/[gy]/g, ''))] : []
  )
  return ({ path, route }) =>
    exact.has(path) ||
    exact.has(route) ||
    prefixes.some((prefix) => path.startsWith(prefix)) ||
    expressions.some((expression) => expression.test(path))
}
