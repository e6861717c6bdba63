import type { IncomingMessage } from 'node:http'
import type { Observation, Outcome } from '@fastify-observability/observation'
import {
  type Hosts,
  hostsSchema,
  ignoreVariable,
  isOpenTelemetryDisabled,
  isRecord,
  type KeepOptions,
  keepSchema,
  listFromEnv,
  parseEnv,
  parseOptions,
  type ServiceOptions,
  serviceSchema,
  waitSchema
} from '@fastify-observability/observation/internal'
import type { Instrumentation } from '@opentelemetry/instrumentation'
import type { Sampler, SpanProcessor } from '@opentelemetry/sdk-trace'
import type { FastifyContextConfig } from 'fastify'
import * as v from 'valibot'
import { isInstrumentation } from './instrumentation/instrumentations.ts'
import { isSampler, ratioSchema } from './sampler.ts'
import { SCOPE as NAME } from './span.ts'

/** Options of the tracing part. */
export interface TracingOptions {
  /** Who the telemetry is about. @default what the environment and package.json say */
  service?: ServiceOptions
  /**
   * Where spans go over OTLP/gRPC: `http://` in plain text, `https://` with TLS. Without one, spans are not exported.
   * @default OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, then OTEL_EXPORTER_OTLP_ENDPOINT, then none
   */
  endpoint?: string
  /** Writes every trace as a tree to standard error, for development. @default OTEL_TRACES_EXPORTER contains "console" */
  console?: boolean
  /**
   * The share of the traces that begin here which are recorded, from 0 to 1. A trusted caller's decision is followed.
   * @default OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, then 1
   */
  sampleRatio?: number
  /**
   * Whether a caller's trace is continued. `false`, or a predicate that says so or throws, makes the request the root of a
   * trace of our own with a link to the caller's: our sampler decides, and no state of the caller's is carried on.
   * @default true
   */
  trustInbound?: boolean | ((request: IncomingMessage) => boolean)
  /**
   * Hosts that get `traceparent`, `tracestate` and `baggage` with the calls made to them. A string stands for the host and
   * its subdomains. `[]` for none.
   * @default every host
   */
  propagateTo?: Hosts
  /**
   * Whether W3C baggage is taken from trusted callers and sent on.
   * @default OTEL_PROPAGATORS names "baggage", else false
   */
  baggage?: boolean
  /**
   * Whether a request makes its span an error one. Asked when the response has closed.
   * @default a status of 500 or above, or a response that broke
   */
  isError?: (outcome: Outcome, observation: Observation) => boolean
  /** How long closing the app may take to deliver the last spans, in milliseconds. @default 5000 */
  shutdownTimeoutMs?: number
  /**
   * A span for each hook that is added after this plugin, and for each handler, below the request's.
   * @default TRACE_LIFECYCLE_SPANS, then false
   */
  lifecycleSpans?: boolean
  /** Instrumentations of your own, made before what they instrument was loaded. @default [] */
  instrumentations?: Instrumentation[]
  /** Processors of your own: they receive all spans, without their secrets. @default [] */
  spanProcessors?: SpanProcessor[]
  /** Decides what is recorded, in the place of `sampleRatio` and of a caller. @default none */
  sampler?: Sampler
  /**
   * Exports the traces that begin here and are not sampled, whole, when their request failed, as `isError` says, or was slow;
   * the span of the request then says why in `keep.reason`. `true` for those that failed. @default false
   */
  keep?: KeepOptions | boolean
}

const URL_RULE = 'an http:// or https:// URL'
const ROUTE_RULE = 'a boolean or { ratio } from 0 to 1'
const EXPORTERS = ['otlp', 'console', 'none']
const PROPAGATORS = ['tracecontext', 'baggage', 'none']
const url = v.optional(v.pipe(v.string(URL_RULE), v.check(isHttpUrl, URL_RULE)))
const processor = v.custom<SpanProcessor>(isProcessor, 'an OpenTelemetry span processor')
const predicate = v.custom<(request: IncomingMessage) => boolean>((value) => typeof value === 'function')
const instrumentation = v.custom<Instrumentation>(isInstrumentation, 'an OpenTelemetry instrumentation')
const schema = v.strictObject({
  service: serviceSchema,
  endpoint: url,
  console: v.optional(v.boolean()),
  sampleRatio: v.optional(ratioSchema),
  trustInbound: v.optional(v.union([v.boolean(), predicate], 'a boolean or a function')),
  propagateTo: hostsSchema,
  baggage: v.optional(v.boolean()),
  isError: v.optional(
    v.custom<Required<TracingOptions>['isError']>((value) => typeof value === 'function', 'a function')
  ),
  shutdownTimeoutMs: waitSchema(1),
  lifecycleSpans: v.optional(v.boolean('true or false')),
  instrumentations: v.optional(v.array(instrumentation, 'an array of OpenTelemetry instrumentations')),
  spanProcessors: v.optional(v.array(processor, 'an array of OpenTelemetry span processors')),
  sampler: v.optional(v.custom<Sampler>(isSampler, 'an OpenTelemetry sampler')),
  keep: keepSchema
})
const route = v.object({
  trace: v.optional(v.union([v.boolean(), v.strictObject({ ratio: ratioSchema })], ROUTE_RULE))
})
const routeSchema = v.object({ config: v.object({ observability: route }) })
const envSchema = v.object({
  TRACE_LIFECYCLE_SPANS: v.optional(v.picklist(['true', 'false'], 'true or false'))
})

function isHttpUrl(value: string): boolean {
  return /^https?:$/.test(URL.parse(value)?.protocol ?? '')
}

function isProcessor(value: unknown): boolean {
  const moments = ['onStart', 'onEnd', 'forceFlush', 'shutdown']
  return isRecord(value) && moments.every((moment) => typeof value[moment] === 'function')
}

type Warn = (message: string) => void

function urlFrom(variable: string, warn: Warn): string | undefined {
  const text = process.env[variable]?.trim()
  if (!text || isHttpUrl(text)) return text || undefined
  // A URL may hold a password.
  return ignoreVariable(variable, undefined, URL_RULE, warn)
}

/** Options, completed from the environment; `undefined` where OpenTelemetry is switched off. */
export function resolveOptions(options: TracingOptions, warn: Warn) {
  const parsed = parseOptions<TracingOptions>(NAME, schema, options)
  const env = parseEnv(envSchema, warn)
  if (isOpenTelemetryDisabled(warn)) return undefined
  const exporters = listFromEnv('OTEL_TRACES_EXPORTER', EXPORTERS, warn) ?? ['otlp']
  const propagators = listFromEnv('OTEL_PROPAGATORS', PROPAGATORS, warn) ?? ['tracecontext']
  const fromEnv = (): string | undefined =>
    urlFrom('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', warn) ?? urlFrom('OTEL_EXPORTER_OTLP_ENDPOINT', warn)
  const isOtlpNamed = exporters.includes('otlp')
  return {
    ...parsed,
    endpoint: parsed.endpoint ?? (isOtlpNamed ? fromEnv() : undefined),
    /** Why endpoints of the environment do not count, where they do not. */
    obstacle: isOtlpNamed ? undefined : 'OTEL_TRACES_EXPORTER does not name otlp',
    console: parsed.console ?? exporters.includes('console'),
    traceContext: propagators.includes('tracecontext'),
    baggage: parsed.baggage ?? propagators.includes('baggage'),
    lifecycleSpans: parsed.lifecycleSpans ?? env.TRACE_LIFECYCLE_SPANS === 'true'
  }
}

/** @throws TypeError for a route whose `config.observability.trace` is invalid. */
export function checkRoute(config: FastifyContextConfig | undefined): void {
  parseOptions(NAME, routeSchema, { config: { observability: config?.observability ?? {} } })
}
