import type { Outcome } from '@fastify-observability/observation'
import type { PartObserver, RequestObservation } from '@fastify-observability/observation/internal'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type createFactory, DURATION_BUCKETS } from './business.ts'
import { HistogramSeries, isSampled, type ScalarSeries } from './series.ts'

/** Makes the value of a label of the request's duration, when the response has closed. */
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

// On Node's object: what a request has begun with is what it ends with, whatever becomes of its URL.
const SERIES: unique symbol = Symbol('fastify-observability.metrics')
const NAME = '@fastify-observability/metrics'
const SIZE_BUCKETS = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]
const SWITCHING_PROTOCOLS = 101
const MAX_CUSTOM_LABEL_LENGTH = 256

declare module 'node:http' {
  interface IncomingMessage {
    [SERIES]?: RouteSeries | undefined
  }
}

/** Declares the metrics of requests, and keeps them as an observer. */
export function observeRequests(
  { gauge, histogram }: ReturnType<typeof createFactory>,
  options: RequestMetricsOptions,
  report: (error: unknown) => void
): PartObserver {
  const { groupStatusCodes, customLabels, durationBuckets = DURATION_BUCKETS, bodySizeBuckets = SIZE_BUCKETS } = options
  const isExcluded = pathMatcher(options.exclude)
  const custom = Object.values(customLabels)
  const labelNames = ['http_request_method', 'http_route'] as const
  const duration = histogram({
    name: 'http_server_request_duration_seconds',
    help: 'Duration of HTTP server requests.',
    labelNames: [...labelNames, 'http_response_status_code', 'error_type', ...Object.keys(customLabels)],
    buckets: durationBuckets
  }).series
  const firstByte = histogram({
    name: 'http_server_time_to_first_byte_seconds',
    help: 'Time from the arrival of HTTP server requests to the headers of their answers.',
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
  let forgotten = 0

  function seriesOf({ method, route, config }: RequestObservation): RouteSeries | undefined {
    let now = 0
    for (const set of sets) now += set.forgotten
    if (now !== forgotten) routes.clear()
    forgotten = now
    const known = routes.get(route)?.get(method)
    if (known) return known
    if (config.metrics === false) return undefined
    const { duration: hasDuration = true, durationBuckets: buckets } = config.metrics ?? {}
    const labels = [method, route]
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
    // What has overflowed is not kept: there may be any number of it.
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
    const labels = [observation.method, observation.route, statusLabel(statusCode), errorType ?? '']
    if (custom.length > 0) labels.push(...customValues(observation))
    const found = duration.get(labels, buckets && (() => new HistogramSeries(buckets)))
    if (isPlain && duration.isOwn(found, labels)) series.durations.set(statusCode, found)
    return found
  }

  function customValues({ request, reply }: RequestObservation): string[] {
    return custom.map((label) => {
      try {
        const value: unknown = request && reply && label(request, reply)
        // JavaScript takes an async function for one; its rejection must not end the process.
        if (value instanceof Promise) value.catch(report)
        return value === undefined || value === null
          ? ''
          : String(value).slice(0, MAX_CUSTOM_LABEL_LENGTH).toWellFormed()
      } catch (error) {
        report(error)
        return ''
      }
    })
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
      // The life of an upgraded connection is no latency: what its client waited for is the upgrade.
      const ms = statusCode === SWITCHING_PROTOCOLS ? (ttfbMs ?? durationMs) : durationMs
      durationOf(series, observation, outcome).observe(ms / 1000, spanContext, now)
    },
    malformed({ statusCode, errorType }) {
      const labels = ['_OTHER', 'unmatched', statusLabel(statusCode), errorType, ...custom.map(() => '')]
      duration.get(labels).observe(0)
    }
  }
}

/** What `exclude` names: a path, all below one (`/internal/*`), a route, or what an expression matches. */
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
