import { currentScope, JobObservation, RequestObservation } from '@fastify-observability/observation/internal'
import { type SpanContext, trace } from '@opentelemetry/api'
import type { Logger } from 'pino'
import { shortened } from './caller-text.ts'
import type { ContextName } from './fields.ts'
import { inOnePiece, memoize } from './memoize.ts'
import { escapeLoose } from './safe.ts'

const BOUND = Symbol('fastify-observability.logging.observation')
// What JSON leaves as it is, which most ids and paths are: seen faster than JSON.stringify starts.
const PLAIN = /^[ !#-[\]-~]*$/

// What stands in a logger that was made for a request, which nobody has bound yet.
const LOOSE = Symbol('fastify-observability.logging.loose')

/** Cheaper than pino's child(), and children made from it find the binding through their prototype. */
export function bind(logger: Logger, observation: RequestObservation | JobObservation | undefined): Logger {
  const bound = BOUND in logger && logger[BOUND] === LOOSE ? logger : Object.create(logger)
  bound[BOUND] = observation
  return bound
}

/** A logger for one request, which `bind` binds itself. A factory may add methods of its own to it. */
export function loose(logger: Logger): Logger {
  const made = Object.create(logger)
  made[BOUND] = LOOSE
  return made
}

/** Whether the logger, or the one that it is a child of, comes from `createLogger`. */
export function isOurs(logger: object): logger is Logger {
  return BOUND in logger
}

/** The logger from `createLogger` that this one descends from. Fastify makes a child of the one that it is given. */
export function ancestorOf(logger: Logger): Logger {
  let ancestor = logger
  for (let target: object | null = logger; target !== null; target = Object.getPrototypeOf(target)) {
    if (Object.hasOwn(target, BOUND) && isOurs(target)) ancestor = target
  }
  return ancestor
}

/** The request or job that a line of the logger belongs to. */
export function observationOf(logger: object): RequestObservation | JobObservation | undefined {
  const bound = BOUND in logger ? logger[BOUND] : undefined
  const isBound = bound instanceof RequestObservation || bound instanceof JobObservation
  return isBound ? bound : currentScope()?.observation
}

/** The request that a line of the logger belongs to, `undefined` for one of a job. */
export function requestOf(logger: object): RequestObservation | undefined {
  const bound = BOUND in logger ? logger[BOUND] : undefined
  if (bound instanceof RequestObservation) return bound
  const observation = observationOf(logger)
  return observation instanceof RequestObservation ? observation : undefined
}

/** The context of a line that is written now. */
export function contextFields(logger: object): Record<ContextName, unknown> {
  const observation = observationOf(logger)
  return fieldsOf(observation, spanOf(observation))
}

/** The context of a line of the request or job, in a span. */
export function fieldsOf(
  observation: RequestObservation | JobObservation | undefined,
  span: SpanContext | undefined
): Record<ContextName, unknown> {
  const request = observation && 'raw' in observation ? observation : undefined
  return {
    request_id: escapedId(observation?.requestId),
    correlation_id: escapedId(observation?.correlationId),
    method: request?.method,
    path: request && escapeLoose(shortened(request.path)),
    trace_id: span?.traceId,
    span_id: span?.spanId
  }
}

// Read for each line: the active span changes while a request runs.
function spanOf(observation: RequestObservation | JobObservation | undefined): SpanContext | undefined {
  const isCurrent = observation === currentScope()?.observation
  const active = isCurrent ? trace.getActiveSpan()?.spanContext() : undefined
  return active ?? observation?.spanContext
}

const methodText = memoize((method: string) => inOnePiece(`,"method":"${method}","path":"`))

/** The context of a request's canonical line, as JSON. */
export function contextText(observation: RequestObservation): string {
  const { method, path, spanContext } = observation
  return (
    idsText(observation) +
    methodText(method) +
    innerOf(shortened(path)) +
    (spanContext ? `","trace_id":"${spanContext.traceId}","span_id":"${spanContext.spanId}"` : '"')
  )
}

function idsText({ requestId, correlationId }: RequestObservation): string {
  if (typeof requestId !== 'string' || typeof correlationId !== 'string')
    return fieldOf('request_id', requestId) + fieldOf('correlation_id', correlationId)
  const id = innerOf(requestId)
  return `,"request_id":"${id}","correlation_id":"${correlationId === requestId ? id : innerOf(correlationId)}"`
}

function fieldOf(name: ContextName, id: unknown): string {
  return id === undefined ? '' : `,"${name}":${JSON.stringify(escapedId(id))}`
}

// A `genReqId` in JavaScript may give anything.
function escapedId(id: unknown): unknown {
  return typeof id === 'string' ? escapeLoose(id) : id
}

/** What stands between the quotes. */
function innerOf(text: string): string {
  return PLAIN.test(text) ? text : JSON.stringify(escapeLoose(text)).slice(1, -1)
}
