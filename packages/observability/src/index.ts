import health, { type HealthOptions } from '@fastify-observability/health'
import logging, { type LoggingOptions } from '@fastify-observability/logging'
import metrics, { type MetricsOptions } from '@fastify-observability/metrics'
import observation, { type Observe } from '@fastify-observability/observation'
import {
  type FlushReport,
  type KeepOptions,
  keepSchema,
  parseOptions,
  registryOf,
  type ServiceOptions,
  serviceSchema,
  withDocs
} from '@fastify-observability/observation/internal'
import profiling, { type ProfilingOptions } from '@fastify-observability/profiling'
import requestId, { type RequestIdOptions } from '@fastify-observability/request-id'
import sentry, { type SentryOptions } from '@fastify-observability/sentry'
import tracing, { type TracingOptions } from '@fastify-observability/tracing'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'
import { loadDevtools, wantsDevtools } from './devtools.ts'
import { createManagement, type ManagementOptions, managementSchema } from './management.ts'
import { logReport, type Report, reportOf } from './report.ts'
import { flushBeforeAnswers } from './serverless.ts'
import { deliverAtSignals } from './signals.ts'

export type {
  Check,
  CheckDetails,
  CheckOptions,
  CheckReport,
  CheckState,
  Health,
  HealthState,
  PressureMode,
  PressureOptions,
  ShutdownOptions,
  ShutdownSignal
} from '@fastify-observability/health'
export * from '@fastify-observability/health/checks'
export type { FileOptions, Format, Level } from '@fastify-observability/logging'
export { createLogger, logger } from '@fastify-observability/logging'
export type {
  ClusterMetricsOptions,
  Counter,
  CounterOptions,
  CustomLabel,
  Gauge,
  GaugeOptions,
  Histogram,
  HistogramOptions,
  Labels,
  Metrics,
  PoolState
} from '@fastify-observability/metrics'
export { clusterMetrics } from '@fastify-observability/metrics'
export type {
  AddedFields,
  BullmqContext,
  BullmqSpan,
  BullmqTelemetry,
  FieldItem,
  FieldValue,
  Job,
  JobFunction,
  JobObserver,
  JobOptions,
  JobOrigin,
  JobOutcome,
  KeptValue,
  LogLevel,
  Observation,
  ObservationRegistry,
  Observe,
  Observer,
  Outcome,
  Refusal,
  RouteMetrics,
  RouteObservability,
  Sample,
  Series,
  Work,
  WorkObserver
} from '@fastify-observability/observation'
export { bullmqTelemetry, currentObservation, observe } from '@fastify-observability/observation'
export type {
  FlushReport,
  KeepOptions,
  Service,
  Signal,
  SignalReport,
  Undelivered
} from '@fastify-observability/observation/internal'
export { getBaggage, withBaggage, withSpan } from '@fastify-observability/tracing'
export type {
  HealthOptions,
  LoggingOptions,
  ManagementOptions,
  MetricsOptions,
  ProfilingOptions,
  Report,
  RequestIdOptions,
  SentryOptions,
  ServiceOptions,
  TracingOptions
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The app of the second listener, where the `management` option asks for one. */
    management: FastifyInstance | undefined
    observability: Observability
  }
}

/** `app.observability`. */
export interface Observability {
  /**
   * Delivers the lines, spans, points and events that are held, and says what it could not deliver. Resolves at the latest
   * after `timeoutMs`, and never rejects.
   * @param timeoutMs milliseconds, a day at most. @default 2000
   */
  flush(timeoutMs?: number): Promise<FlushReport>
  /** Runs a function as a job of this app, where a process has several; else as the `observe` that is exported. */
  observe: Observe
  /** Says where each signal goes, without secrets, what would send it further, and what was lost so far. */
  report(): Report
}

/** Options of the developer page. */
// Not the type of its package: whoever compiles without that would need it all the same.
export interface DevtoolsOptions {
  /**
   * Addresses of other tools that show a request, by their names: `{trace_id}` and `{request_id}` in them stand for its ids.
   * @default {}
   */
  links?: Record<string, string>
}

/** Every part takes its own options, `true` for its defaults, or `false` to be left out. */
export interface ObservabilityOptions {
  /** Handed to every part that does not bring its own. */
  service?: ServiceOptions
  /** A second listener that takes `/metrics` and the details of health off this one. @default none */
  management?: ManagementOptions
  /**
   * For platforms that freeze the process when it has answered: each line is written at once, and each answer waits until
   * all that is known of its request has been delivered, two seconds at most. @default false
   */
  serverless?: boolean
  /**
   * Everything of the requests that failed or were slow: lines below the level, and traces that are not sampled. `true` for those
   * that failed. Handed to logging and tracing where they do not bring their own. @default false
   */
  keep?: KeepOptions | boolean
  /** Request and correlation ids, in headers and signals. @default true */
  requestId?: RequestIdOptions | boolean
  /** Lines of JSON, one for each request. @default true */
  logging?: LoggingOptions | boolean
  /** Server spans, and those of what requests call. @default true */
  tracing?: TracingOptions | boolean
  /** `/metrics` for Prometheus. @default true */
  metrics?: MetricsOptions | boolean
  /** Probes of liveness, readiness and startup; by its options load shedding, and a shutdown in order too. @default true */
  health?: HealthOptions | boolean
  /** Error events, where SENTRY_DSN or its option `dsn` says where to. @default true */
  sentry?: SentryOptions | boolean
  /** Continuous profiles for Pyroscope; needs `@datadog/pprof`. The one part that is off until it is asked for. @default false */
  profiling?: ProfilingOptions | boolean
  /**
   * The developer page at `/_observability`, of `@fastify-observability/devtools`. Never in production, but for a
   * management listener with a token. @default whether NODE_ENV is `development`
   */
  devtools?: DevtoolsOptions | boolean
}

const NAME = 'fastify-observability'
// The same for every copy of this package in a process.
const REGISTERED = Symbol.for('fastify-observability.registered')
const FLUSH_MS = 2_000
const DAY_MS = 86_400_000
const PART_RULE = "an object with the part's options, true or false"
// The parts check their own options.
const part = v.optional(
  v.custom<object | boolean>(
    (value) => typeof value === 'boolean' || (typeof value === 'object' && value !== null),
    PART_RULE
  )
)
const schema = v.strictObject({
  service: serviceSchema,
  management: managementSchema,
  serverless: v.optional(v.boolean()),
  keep: keepSchema,
  requestId: part,
  logging: part,
  tracing: part,
  metrics: part,
  health: part,
  sentry: part,
  profiling: part,
  devtools: part
})

async function observability(app: FastifyInstance, options: ObservabilityOptions): Promise<void> {
  parseOptions(NAME, schema, options)
  if (app.hasDecorator(REGISTERED)) {
    app.log.warn(
      withDocs('registered-late-or-twice'),
      `${NAME}: already registered here or by a parent instance; this registration is ignored`
    )
    return
  }
  app.decorate(REGISTERED, options)
  const { service = {}, serverless = false, keep } = options
  const ids = optionsOf(options.requestId)
  const logs = optionsOf(options.logging)
  const traces = optionsOf(options.tracing)
  const series = optionsOf(options.metrics)
  const probes = optionsOf(options.health)
  const events = optionsOf(options.sentry)
  const profiles = optionsOf(options.profiling ?? false)
  const management = options.management && createManagement(app, options.management)
  app.decorate('management', management)
  await app.register(observation)
  const registry = registryOf(app)
  deliverAtSignals(app)
  if (serverless) flushBeforeAnswers(registry)
  const report = (): Report => reportOf(registry, service, options)
  app.decorate('observability', {
    // Node warns of a timer that is negative or no number.
    flush: (timeoutMs = FLUSH_MS) => registry.flush(timeoutMs >= 0 ? Math.min(timeoutMs, DAY_MS) : 0),
    observe: registry.jobs.observe,
    report
  })
  logReport(app, report)
  const page = wantsDevtools(options.devtools, management) ? await loadDevtools(app, options.devtools) : undefined

  // Order matters: observers start in this order and end in the reverse one.
  if (page) await app.register(page.default, { given: options, ...(management && { management }), ...page.options })
  if (ids) await app.register(requestId, ids)
  if (logs) await app.register(logging, { service, sync: serverless, keep, ...logs })
  if (traces) {
    const { spanProcessors = [] } = traces
    const all = page ? { spanProcessors: [...spanProcessors, page.spanProcessor] } : {}
    await app.register(tracing, { service, keep, ...traces, ...all })
  }
  if (series) await app.register(metrics, { service, ...(management && { management }), ...series })
  if (probes) await app.register(health, { service, ...(management && { management }), ...probes })
  if (events) await app.register(sentry, { service, ...events })
  if (profiles) await app.register(profiling, { service, ...profiles })
}

/** The options of a part, `false` where it is left out. */
function optionsOf<Options extends object>(part: Options | boolean | undefined): Partial<Options> | false {
  return part === undefined || part === true ? {} : part
}

/** Registers every part, in the order that they need. */
export default fp(observability, { name: NAME, fastify: '^5.10.0' })
