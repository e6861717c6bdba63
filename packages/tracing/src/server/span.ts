import type { IncomingMessage } from 'node:http'
import type { Outcome } from '@fastify-observability/observation'
import type { PartObserver, RequestObservation } from '@fastify-observability/observation/internal'
import {
  type Context,
  context,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace
} from '@opentelemetry/api'
import { suppressTracing } from '@opentelemetry/core'
import { SpanFrame } from '../propagation/context.ts'
import type { StartRequestSpan } from './request-span.ts'
import { withRatio } from '../sampler.ts'
import { attributesOf, nameOf } from './attributes.ts'
import { exceptionOf, FIRST_BYTE, SCOPE } from '../span.ts'

export interface ServerSpanOptions {
  startSpan: StartRequestSpan
  /** Whether what the observation calls its context is active while the request is served. */
  hasSharedContext: boolean
  isTrusted: (request: IncomingMessage) => boolean
  isError: (outcome: Outcome, observation: RequestObservation) => boolean
}

/** The one server span of a request: started here, or by another instrumentation and completed here. */
export function serverSpans({ startSpan, hasSharedContext, isTrusted, isError }: ServerSpanOptions): PartObserver {
  // Spans that another instrumentation ends.
  const foreign = new WeakSet<Span>()

  /** Whether it is the server span that an HTTP instrumentation has opened for this very request. */
  function isOpenedByOthers(active: Span): boolean {
    if (active.spanContext().isRemote || foreign.has(active)) return false
    // A request injected by a handler runs below the server span of another.
    return !isOurs(active) && kindOf(active) === SpanKind.SERVER && active.isRecording()
  }

  /**
   * What a request begins in. What is active when it comes over a socket, other than the span of an HTTP instrumentation,
   * is what was active when the server began to listen.
   */
  function surroundings({ response }: RequestObservation, active: Span | undefined): Context {
    const isLeft =
      active && !('isLightMyRequest' in response) && (isOurs(active) || kindOf(active) === SpanKind.INTERNAL)
    return isLeft ? ROOT_CONTEXT : context.active()
  }

  /** The context to start in, and the caller's span where it may not be the parent. */
  function parentOf(raw: IncomingMessage, around: Context): [parent: Context, link?: Link] {
    const caller = propagation.extract(around, raw.headers)
    const remote = trace.getSpanContext(caller)
    const isFromCaller = remote?.isRemote || propagation.getBaggage(caller) !== propagation.getBaggage(around)
    if (!isFromCaller || isTrusted(raw)) return [caller]
    return [around, remote?.isRemote ? { context: remote } : undefined]
  }

  function begin(observation: RequestObservation): Span {
    // Most requests come in no context at all.
    const isAlone = hasSharedContext && observation.context === undefined
    const active = isAlone ? undefined : trace.getActiveSpan()
    if (active && isOpenedByOthers(active)) {
      foreign.add(active)
      observation.context = context.active()
      return active.updateName(nameOf(observation)).setAttributes(attributesOf(observation))
    }
    const { raw, headers, config } = observation
    let parent = isAlone ? ROOT_CONTEXT : surroundings(observation, active)
    let link: Link | undefined
    // Others' propagators may read any header.
    const { traceparent, baggage } = headers
    const isCalled = !hasSharedContext || traceparent !== undefined || baggage !== undefined
    if (isCalled) [parent, link] = parentOf(raw, parent)
    if (typeof config.trace === 'object') parent = withRatio(parent, config.trace.ratio)
    const span = startSpan(observation, parent, link)
    observation.context = new SpanFrame(parent, span)
    return span
  }

  return {
    name: SCOPE,
    start(observation) {
      if (observation.config.trace === false) {
        observation.context = suppressTracing(context.active())
        return
      }
      const span = begin(observation)
      const own = span.spanContext()
      // A request injected where nothing is traced has none. Only the ids of others have to be looked at.
      if (own !== INVALID_SPAN_CONTEXT && (hasSharedContext || isSpanContextValid(own))) observation.spanContext = own
      if (observation.request) observation.request.span = span
    },
    ...(!hasSharedContext && {
      run({ context: own = context.active() }, next) {
        context.with(own, next)
      }
    }),
    end(observation, outcome) {
      if (observation.config.trace === false) return
      const span = trace.getSpan(observation.context ?? ROOT_CONTEXT)
      if (!span) return
      const { startedAt, headersAt, broken } = observation
      const { statusCode, headersSent, error, errorType, durationMs } = outcome
      // The semantic conventions want the status only if one was sent.
      if (headersSent) span.setAttribute('http.response.status_code', statusCode)
      if (errorType !== undefined) span.setAttribute('error.type', errorType)
      if (headersAt !== undefined) span.addEvent(FIRST_BYTE, headersAt)
      if (error !== undefined && (statusCode >= 500 || broken)) span.recordException(exceptionOf(error))
      if (isError(outcome, observation)) span.setStatus({ code: SpanStatusCode.ERROR })
      if (!foreign.has(span)) span.end(startedAt + durationMs)
    }
  }
}

function isOurs(span: Span): boolean {
  return 'instrumentationScope' in span && scopeName(span.instrumentationScope) === SCOPE
}

function kindOf(span: Span): unknown {
  return 'kind' in span ? span.kind : undefined
}

function scopeName(scope: unknown): unknown {
  return typeof scope === 'object' && scope !== null && 'name' in scope ? scope.name : undefined
}
