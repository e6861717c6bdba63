import type { JobOrigin } from '@fastify-observability/observation'
import type { JobObservation, PartJobObserver } from '@fastify-observability/observation/internal'
import {
  type Attributes,
  type Context,
  context,
  defaultTextMapGetter,
  isSpanContextValid,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { ofRequest, REQUEST } from './propagation/context.ts'
import { attributeOf } from './server/attributes.ts'
import { exceptionOf, SCOPE, tracer } from './span.ts'

// Of what came through a queue: as many as a span has by default.
const MAX_LINKS = 128
const w3c = new W3CTraceContextPropagator()

/** The one span of a job, which is active below it. */
export function jobSpans(): PartJobObserver {
  function start(observation: JobObservation): void {
    const { job, source, startedAt, requestId, correlationId } = observation
    const links = observation.origins.slice(0, MAX_LINKS).flatMap((origin) => spanContextOf(origin) ?? [])
    const given = observation.parent === undefined ? undefined : spanContextOf(observation.parent)
    const parent = given ? trace.setSpanContext(ROOT_CONTEXT, given) : surrounding(observation)
    const isCaused = links.length > 0 || given !== undefined || source !== undefined
    const span = tracer().startSpan(
      source?.spanName ?? job,
      {
        kind: isCaused ? SpanKind.CONSUMER : SpanKind.INTERNAL,
        startTime: startedAt,
        links: links.map((context) => ({ context })),
        attributes: {
          ...source?.attributes,
          ...ofAttempt(observation),
          ...(requestId !== undefined && { 'request.id': requestId }),
          ...(correlationId !== undefined && { 'correlation.id': correlationId })
        }
      },
      parent
    )
    const own = span.spanContext()
    if (isSpanContextValid(own)) observation.spanContext = own
    observation.context = ofRequest(trace.setSpan(parent, span), observation)
  }

  function enter({ context: own = context.active() }: JobObservation, next: () => void): void {
    context.with(own, next)
  }

  return {
    name: SCOPE,
    kind: 'job',
    start,
    run: enter,
    resume: enter,
    end(observation, { error, errorType, result, durationMs }) {
      const span = trace.getSpan(observation.context ?? ROOT_CONTEXT)
      if (!span) return
      // A library may say late which job it is.
      if (observation.source) span.setAttributes(ofAttempt(observation))
      for (const [name, value] of observation.fields) span.setAttribute(name, attributeOf(value))
      if (errorType !== undefined) span.setAttribute('error.type', errorType)
      if (error !== undefined) span.recordException(exceptionOf(error))
      if (result === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
      span.end(observation.startedAt + durationMs)
    }
  }
}

function ofAttempt({ job, attempt }: JobObservation): Attributes {
  return { 'job.name': job, ...(attempt !== undefined && { 'job.attempt': attempt }) }
}

/** A job that was enqueued begins a trace of its own; so does one that a timer of an ended request runs. */
function surrounding({ origins, outer, source }: JobObservation): Context {
  if (source) return source.context
  if (origins.length > 0) return ROOT_CONTEXT
  const isLeftBehind = outer === undefined && context.active().getValue(REQUEST) !== undefined
  return isLeftBehind ? ROOT_CONTEXT : context.active()
}

/** What came through a queue may be anything: `undefined` for what is no span context. */
function spanContextOf(origin: JobOrigin): SpanContext | undefined {
  if (typeof origin === 'string')
    return trace.getSpanContext(w3c.extract(ROOT_CONTEXT, { traceparent: origin }, defaultTextMapGetter))
  const { traceId, spanId, traceFlags } = Object(origin)
  const known: SpanContext = { traceId, spanId, traceFlags: Number(traceFlags) & TraceFlags.SAMPLED, isRemote: true }
  return typeof traceId === 'string' && typeof spanId === 'string' && isSpanContextValid(known) ? known : undefined
}
