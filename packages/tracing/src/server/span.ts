import type { IncomingMessage } from 'node:http'
import type { Outcome } from '@fastify-observability/observation'
import {
  elapsedMs,
  isFailure,
  type KeepRule,
  type KeptFields,
  type PartObserver,
  type RequestObservation
} from '@fastify-observability/observation/internal'
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
import { HeldTrace } from '../processing/held-traces.ts'
import { ofRequest, SpanFrame } from '../propagation/context.ts'
import { withRatio } from '../sampler.ts'
import { exceptionOf, FIRST_BYTE, SCOPE } from '../span.ts'
import { attributeOf, attributesOf, nameOf } from './attributes.ts'
import { RequestSpan, type StartRequestSpan } from './request-span.ts'

/** The attribute of a trace that is kept although it was not sampled. */
export const KEEP_REASON = 'keep.reason'

export interface ServerSpanOptions {
  startSpan: StartRequestSpan
  /** Whether the context of an observation is the active one while its request is served. */
  hasSharedContext: boolean
  isTrusted: (request: IncomingMessage) => boolean
  isError: (outcome: Outcome, observation: RequestObservation) => boolean
  /** Of which requests a trace that is not sampled is kept. */
  rule: KeepRule | undefined
}

/** The one server span of a request: started when it arrives, or taken over from an HTTP instrumentation, and completed at its end. */
export function serverSpans({
  startSpan,
  hasSharedContext,
  isTrusted,
  isError,
  rule
}: ServerSpanOptions): PartObserver {
  // Spans that another instrumentation has opened and ends.
  const foreign = new WeakSet<Span>()
  // Whether request-id is registered after this part.
  let hasIdsLater = false

  function start(observation: RequestObservation): void {
    if (observation.config.trace === false) {
      observation.context = ofRequest(suppressTracing(context.active()), observation)
      return
    }
    hasIdsLater = observation.correlationId === undefined
    const span = takeOverForeign(observation) ?? startOwn(observation)
    const own = span.spanContext()
    // A request injected where nothing is traced has no ids. Only the ids of others have to be validated.
    if (own !== INVALID_SPAN_CONTEXT && (hasSharedContext || isSpanContextValid(own))) observation.spanContext = own
    if (observation.request) observation.request.span = span
  }

  /** The server span that an HTTP instrumentation has opened for this very request. */
  function takeOverForeign(observation: RequestObservation): Span | undefined {
    if (arrivesInRoot(observation)) return undefined
    const active = trace.getActiveSpan()
    if (!active || !isOpenServerSpan(active)) return undefined
    foreign.add(active)
    observation.context = ofRequest(context.active(), observation)
    return active.updateName(nameOf(observation)).setAttributes(attributesOf(observation))
  }

  function isOpenServerSpan(active: Span): boolean {
    if (active.spanContext().isRemote || foreign.has(active)) return false
    // A request injected by a handler runs below the server span of another.
    return !isOurs(active) && kindOf(active) === SpanKind.SERVER && active.isRecording()
  }

  function startOwn(observation: RequestObservation): Span {
    const { raw, headers, config } = observation
    let parent = arrivalContext(observation)
    let link: Link | undefined
    // Propagators that others have registered may read any header.
    const mayCarryContext = !hasSharedContext || headers.traceparent !== undefined || headers.baggage !== undefined
    if (mayCarryContext) [parent, link] = callerContext(raw, parent)
    if (typeof config.trace === 'object') parent = withRatio(parent, config.trace.ratio)
    const span = startSpan(observation, parent, link, rule !== undefined)
    observation.context = new SpanFrame(parent, span, observation)
    return span
  }

  /** Whether no context was active when the request arrived, as for most. */
  function arrivesInRoot(observation: RequestObservation): boolean {
    return hasSharedContext && observation.context === undefined
  }

  /**
   * The context that the request arrived in. A span that is active when it comes over a socket, other than that of an HTTP
   * instrumentation, was active when the server began to listen, and is not this request's.
   */
  function arrivalContext(observation: RequestObservation): Context {
    if (arrivesInRoot(observation)) return ROOT_CONTEXT
    const active = trace.getActiveSpan()
    const isLeftover =
      active &&
      !('isLightMyRequest' in observation.response) &&
      (isOurs(active) || kindOf(active) === SpanKind.INTERNAL)
    return isLeftover ? ROOT_CONTEXT : context.active()
  }

  /** The context to start in, and a link to the caller's span where that may not be the parent. */
  function callerContext(raw: IncomingMessage, arrival: Context): [parent: Context, link?: Link] {
    const caller = propagation.extract(arrival, raw.headers)
    const remote = trace.getSpanContext(caller)
    const isFromCaller = remote?.isRemote || propagation.getBaggage(caller) !== propagation.getBaggage(arrival)
    if (!isFromCaller || isTrusted(raw)) return [caller]
    return [arrival, remote?.isRemote ? { context: remote } : undefined]
  }

  function end(observation: RequestObservation, outcome: Outcome): void {
    if (observation.config.trace === false) return
    const span = trace.getSpan(observation.context ?? ROOT_CONTEXT)
    if (!span) return
    const { startedAt, added, headersAt } = observation
    const { statusCode, headersSent, error, errorType, durationMs } = outcome
    const hasFailed = isError(outcome, observation)
    const held = rule && traceBegunWith(span)
    const reason = held && rule(observation.config, outcome, hasFailed)
    if (held && reason === undefined && !held.isWatched) {
      held.decide(false)
      return
    }
    if (reason !== undefined) span.setAttribute(KEEP_REASON, reason)
    if (hasIdsLater) addIds(span, observation)
    // The semantic conventions want the status only if one was sent.
    if (headersSent) span.setAttribute('http.response.status_code', statusCode)
    if (errorType !== undefined) span.setAttribute('error.type', errorType)
    if (added) addFields(span, added)
    if (headersAt !== undefined) span.addEvent(FIRST_BYTE, startedAt + elapsedMs(startedAt, headersAt))
    if (error !== undefined && isFailure(observation, outcome)) span.recordException(exceptionOf(error))
    if (hasFailed) span.setStatus({ code: SpanStatusCode.ERROR })
    if (!foreign.has(span)) span.end(startedAt + durationMs)
    held?.decide(reason !== undefined)
  }

  // Where the context manager is somebody else's, it has to enter the context of each request.
  function enter({ context: own = context.active() }: RequestObservation, next: () => void): void {
    context.with(own, next)
  }
  return { name: SCOPE, start, end, ...(!hasSharedContext && { run: enter, resume: enter }) }
}

/** The trace that this span decides of. */
function traceBegunWith(span: Span): HeldTrace | undefined {
  return span instanceof HeldTrace ? span : undefined
}

function addIds(span: Span, { requestId, correlationId }: RequestObservation): void {
  if (requestId !== undefined) span.setAttribute('request.id', requestId)
  if (correlationId !== undefined) span.setAttribute('correlation.id', correlationId)
}

function addFields(span: Span, added: KeptFields): void {
  if (span instanceof RequestSpan && span.addFields(added)) return
  for (const [name, value] of added.byName) span.setAttribute(name, attributeOf(value))
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
