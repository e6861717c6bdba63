import type { JobOrigin } from '@fastify-observability/observation'
import type { JobObservation, PartJobObserver } from '@fastify-observability/observation/internal'
import {
  type Context,
  context,
  defaultTextMapGetter,
  isSpanContextValid,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { ofRequest, REQUEST } from './propagation/context.ts'
import { attributeOf } from './server/span.ts'
import { exceptionOf, SCOPE, tracer } from './span.ts'

const w3c = new W3CTraceContextPropagator()

/** The one span of a job, which is active below it. */
export function jobSpans(): PartJobObserver {
  function start(observation: JobObservation): void {
    const { job, attempt, startedAt, requestId, correlationId } = observation
    const links = observation.origins.map(spanContextOf).filter((origin) => origin !== undefined)
    const parent = parentOf(observation)
    const isCaused = observation.origins.length > 0 || observation.parent !== undefined
    const span = tracer().startSpan(
      job,
      {
        kind: isCaused ? SpanKind.CONSUMER : SpanKind.INTERNAL,
        startTime: startedAt,
        links: links.map((context) => ({ context })),
        attributes: {
          'job.name': job,
          ...(attempt !== undefined && { 'job.attempt': attempt }),
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
      for (const [name, value] of observation.fields) span.setAttribute(name, attributeOf(value))
      if (errorType !== undefined) span.setAttribute('error.type', errorType)
      if (error !== undefined) span.recordException(exceptionOf(error))
      if (result === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
      span.end(observation.startedAt + durationMs)
    }
  }
}

/** A job that was enqueued begins a trace of its own; so does one that a timer of an ended request runs. */
function parentOf({ parent, origins, outer }: JobObservation): Context {
  const given = parent === undefined ? undefined : spanContextOf(parent)
  if (given) return trace.setSpanContext(ROOT_CONTEXT, given)
  if (origins.length > 0) return ROOT_CONTEXT
  const isLeftBehind = outer === undefined && context.active().getValue(REQUEST) !== undefined
  return isLeftBehind ? ROOT_CONTEXT : context.active()
}

/** What came through a queue may be anything: `undefined` for what is no span context. */
function spanContextOf(origin: JobOrigin): SpanContext | undefined {
  if (typeof origin === 'string')
    return trace.getSpanContext(w3c.extract(ROOT_CONTEXT, { traceparent: origin }, defaultTextMapGetter))
  const { traceId, spanId, traceFlags } = Object(origin)
  const known: SpanContext = { traceId, spanId, traceFlags: traceFlags === 1 ? 1 : 0, isRemote: true }
  return typeof traceId === 'string' && typeof spanId === 'string' && isSpanContextValid(known) ? known : undefined
}
