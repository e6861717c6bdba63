import type { IncomingMessage } from 'node:http'
import observation, {
  createRedactor,
  parseEnv,
  parseOptions,
  resolveService,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation'
import {
  type Attributes,
  type Context,
  context,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace
} from '@opentelemetry/api'
import { suppressTracing } from '@opentelemetry/core'
import type { Instrumentation } from '@opentelemetry/instrumentation'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'
import { addInstrumentations, isInstrumentation, reportInstrumentations } from './instrumentations.ts'
import { traceLifecycle } from './lifecycle.ts'
import { startPipeline } from './pipeline.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The request's server span, `undefined` on untraced routes. */
    span: Span | undefined
  }
}

export interface TracingOptions {
  service?: ServiceOptions
  /**
   * Where spans go over OTLP/gRPC: `http://` in plain text, `https://` with TLS. Without one, spans are not exported.
   * @default OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, then OTEL_EXPORTER_OTLP_ENDPOINT, then none
   */
  endpoint?: string
  /**
   * Whether a caller's trace is continued. `false`, or a predicate that says so or throws, makes the request the root of a
   * trace of our own with a link to the caller's: our sampler decides, and no state of the caller's is carried on.
   * @default true
   */
  trustInbound?: boolean | ((request: IncomingMessage) => boolean)
  /** How long closing the app may take to deliver the last spans, in milliseconds. @default 5000 */
  shutdownTimeoutMs?: number
  /**
   * A span for each hook that is added after this plugin, and for each handler, below the request's.
   * @default TRACE_LIFECYCLE_SPANS, then false
   */
  lifecycleSpans?: boolean
  /** Instrumentations of your own, made before what they instrument was loaded. @default [] */
  instrumentations?: Instrumentation[]
}

const NAME = '@fastify-observability/tracing'
const MS_RULE = 'a positive number of milliseconds'
const URL_RULE = 'an http:// or https:// URL'
const url = v.optional(v.pipe(v.string(URL_RULE), v.check(isHttpUrl, URL_RULE)))
const predicate = v.custom<(request: IncomingMessage) => boolean>((value) => typeof value === 'function')
const instrumentation = v.custom<Instrumentation>(isInstrumentation, 'an OpenTelemetry instrumentation')
const schema = v.strictObject({
  service: serviceSchema,
  endpoint: url,
  trustInbound: v.optional(v.union([v.boolean(), predicate], 'a boolean or a function')),
  shutdownTimeoutMs: v.optional(v.pipe(v.number(MS_RULE), v.gtValue(0, MS_RULE))),
  lifecycleSpans: v.optional(v.boolean('true or false')),
  instrumentations: v.optional(v.array(instrumentation, 'an array of OpenTelemetry instrumentations'))
})
const envSchema = v.object({
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_TRACES_EXPORTER: v.optional(v.string()),
  OTEL_SDK_DISABLED: v.optional(v.string()),
  TRACE_LIFECYCLE_SPANS: v.optional(v.picklist(['true', 'false'], 'true or false'))
})

function isHttpUrl(value: string): boolean {
  return /^https?:$/.test(URL.parse(value)?.protocol ?? '')
}

function tracer(): Tracer {
  return trace.getTracer(NAME)
}

/**
 * Runs `fn` inside a span of its own, ended when `fn` returns or its promise settles; what it throws is recorded and
 * thrown on.
 */
export function withSpan<Result>(name: string, fn: (span: Span) => Result): Result
export function withSpan<Result>(name: string, attributes: Attributes, fn: (span: Span) => Result): Result
export function withSpan<Result>(
  name: string,
  ...rest: [(span: Span) => Result] | [Attributes, (span: Span) => Result]
): Result {
  const [attributes, fn] = rest.length === 1 ? [{}, rest[0]] : rest
  return tracer().startActiveSpan(name, { attributes }, (span) => {
    let result: Result
    try {
      result = fn(span)
    } catch (error) {
      fail(span, error)
      span.end()
      throw error
    }
    if (!(result instanceof Promise)) {
      span.end()
      return result
    }
    // Watched from the side: the caller gets the very promise that fn returned.
    result.catch((error) => fail(span, error)).finally(() => span.end())
    return result
  })
}

function fail(span: Span, error: unknown): void {
  const exception = exceptionOf(error)
  span.recordException(exception)
  span.setAttribute('error.type', exception.name)
  span.setStatus({ code: SpanStatusCode.ERROR, message: exception.message })
}

const MAX_STACK = 8_192
const redactor = createRedactor()

/** What a span may carry of an error, which may be anything and may throw when looked at. */
function exceptionOf(error: unknown): { name: string; message: string; stack?: string } {
  try {
    if (!(error instanceof Error)) return { name: typeof error, message: redactor.text(String(error)) }
    const { name, message, stack = '' } = error
    return { name, message: redactor.text(message), stack: redactor.text(stack).slice(0, MAX_STACK) }
  } catch {
    return { name: 'Error', message: '[unreadable]' }
  }
}

async function tracing(app: FastifyInstance, options: TracingOptions): Promise<void> {
  const parsed = parseOptions<TracingOptions>(NAME, schema, options)
  const env = parseEnv(NAME, envSchema)
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return
  const fromEnv = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? env.OTEL_EXPORTER_OTLP_ENDPOINT
  const endpoint = parsed.endpoint ?? (env.OTEL_TRACES_EXPORTER === 'none' ? undefined : fromEnv)

  await app.register(observation)
  const { shutdownTimeoutMs } = parsed
  const pipeline = startPipeline({ service: resolveService(parsed.service), endpoint, shutdownTimeoutMs, log: app.log })
  addInstrumentations(parsed.instrumentations ?? [])
  reportInstrumentations(app.log)
  if (parsed.lifecycleSpans ?? env.TRACE_LIFECYCLE_SPANS === 'true') await traceLifecycle(app)
  for (const series of pipeline.series) app.observation.publish(series)
  app.decorateRequest('span', undefined)

  function isTrusted(raw: IncomingMessage): boolean {
    const { trustInbound = true } = parsed
    if (typeof trustInbound === 'boolean') return trustInbound
    try {
      return trustInbound(raw) === true
    } catch (error) {
      app.observation.report(NAME, error)
      return false
    }
  }

  /** The context to start in, and the caller's span where it may not be the parent. */
  function parentOf(raw: IncomingMessage): [parent: Context, link?: Link] {
    const caller = propagation.extract(context.active(), raw.headers)
    const remote = trace.getSpanContext(caller)
    if (!remote?.isRemote || isTrusted(raw)) return [caller]
    return [context.active(), { context: remote }]
  }

  app.observation.observe({
    name: NAME,
    start(observation) {
      const { request, raw, config, route, method, path, clientAddress } = observation
      if (config.trace === false) return
      const [parent, link] = parentOf(raw)
      const span = tracer().startSpan(
        route === 'unmatched' ? method : `${method} ${route}`,
        {
          kind: SpanKind.SERVER,
          ...(link && { root: true, links: [link] }),
          attributes: {
            'http.request.method': method,
            ...(route !== 'unmatched' && { 'http.route': route }),
            ...(request && {
              'url.scheme': request.protocol,
              'server.address': request.hostname || undefined,
              'server.port': request.port ?? undefined
            }),
            'url.path': path,
            'client.address': clientAddress,
            'network.protocol.version': raw.httpVersion,
            'user_agent.original': raw.headers['user-agent'],
            'request.id': observation.requestId,
            'correlation.id': observation.correlationId
          }
        },
        parent
      )
      observation.context = trace.setSpan(parent, span)
      observation.spanContext = span.spanContext()
      if (request) request.span = span
    },
    run(observation, next) {
      context.with(observation.context ?? suppressTracing(context.active()), next)
    },
    end(observation, { statusCode, headersSent, error, errorType }) {
      const span = trace.getSpan(observation.context ?? ROOT_CONTEXT)
      if (!span) return
      // The semantic conventions want the status only if one was sent.
      if (headersSent) span.setAttribute('http.response.status_code', statusCode)
      if (errorType !== undefined) span.setAttribute('error.type', errorType)
      if (statusCode >= 500) {
        if (error !== undefined) span.recordException(exceptionOf(error))
        span.setStatus({ code: SpanStatusCode.ERROR })
      }
      span.end()
    }
  })
  app.addHook('onClose', () => pipeline.release())
}

export default fp(tracing, { name: NAME, fastify: '^5.12.0' })
