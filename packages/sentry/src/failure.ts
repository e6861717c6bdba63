import type { IncomingMessage } from 'node:http'
import { types } from 'node:util'
import type { Outcome } from '@fastify-observability/observation'
import { JobObservation, type RequestObservation, thrownText } from '@fastify-observability/observation/internal'
import type { SpanContext } from '@opentelemetry/api'
import type { NodeClient, Scope } from '@sentry/node'

/** In an event's hint: the rate limit has counted it already. */
export const ADMITTED = { isAdmitted: true }

const MARK = '__sentry_captured__'
// As deep as the SDK follows them.
const MAX_CAUSES = 6
/** Errors that this plugin has captured. */
const captured = new WeakSet<object>()

/** A request that really failed: an exception became a 5xx, broke a response that had begun, or was given to `fail`. */
export function hasFailed({ error, errorType }: Outcome): boolean {
  return error !== undefined && errorType !== undefined && errorType !== 'client_disconnect'
}

/**
 * Whether the application has captured the error already. The SDK marks an error so that it is sent once; one object that
 * fails many requests, such as a constant, is to count for each.
 */
export function isCaptured(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  try {
    if (!Reflect.get(error, MARK)) return false
    return !(captured.has(error) && Reflect.deleteProperty(error, MARK))
  } catch {
    return false
  }
}

/** Whether the SDK can read it: where it cannot, it throws, and every later flush waits for the event. */
export function isReadable(thrown: unknown, depth = 0): boolean {
  if (typeof thrown !== 'object' || thrown === null || depth === MAX_CAUSES) return true
  try {
    Object.prototype.toString.call(thrown)
    for (const key of ['name', 'message', 'stack']) Reflect.get(thrown, key)
    const errors: unknown = Reflect.get(thrown, 'errors')
    const causes: unknown[] = [Reflect.get(thrown, 'cause'), ...(Array.isArray(errors) ? errors : [])]
    return causes.every((cause) => isReadable(cause, depth + 1))
  } catch {
    return false
  }
}

/** What the SDK can capture: of lists, buffers and functions it would send all that they hold, and of a symbol nothing. */
export function capturable(thrown: unknown): unknown {
  const isSerialized = Object.prototype.toString.call(thrown) === '[object Object]'
  return isSerialized || types.isNativeError(thrown) || thrown instanceof Error ? thrown : thrownText(thrown)
}

/** Labels all events in the scope with the request or job that they belong to. */
export function describe(scope: Scope, work: RequestObservation | JobObservation): void {
  const { requestId, correlationId } = work
  if (work instanceof JobObservation) {
    scope.setTransactionName(work.job)
    scope.setTags({ job: work.job, request_id: requestId, correlation_id: correlationId })
    return
  }
  const { method, route } = work
  scope.setTransactionName(`${method} ${route}`)
  scope.setTags({ request_id: requestId, correlation_id: correlationId, method })
}

/** Gives an event that is captured later than it happened the time when it did. */
export function stamp(scope: Scope, happenedAt: number | undefined): Scope {
  if (happenedAt === undefined) return scope
  return scope.addEventProcessor((event) => ({ ...event, timestamp: happenedAt / 1_000 }))
}

/** Has events in the scope, which the application may capture itself, and their envelopes name the trace. */
export function continueTrace(scope: Scope, { traceId, spanId }: SpanContext, sampleRand = Math.random()): void {
  scope.setPropagationContext({ traceId, propagationSpanId: spanId, sampleRand })
}

/** Captures how a request ended, in a scope of its own. */
export function captureFailure(
  client: NodeClient,
  scope: Scope,
  observation: RequestObservation,
  { error, statusCode }: Outcome,
  eventId: string,
  tagFields: readonly string[]
): void {
  const { method, route, request, raw, url, clientAddress } = observation
  describe(scope, observation)
  scope.setTag('status_code', statusCode)
  describeWork(scope, observation, tagFields)
  // The SDK takes from these what `dataCollection` allows, but for the body, which it allows or not when it is read.
  const takesBody = client.getDataCollectionOptions().httpBodies.includes('incomingRequest')
  scope.setSDKProcessingMetadata({
    ipAddress: clientAddress,
    normalizedRequest: {
      method: raw.method,
      url,
      headers: headersOf(raw),
      query_string: url.split('?', 2)[1],
      data: takesBody ? request?.body : undefined
    }
  })
  const hint = { event_id: eventId, data: ADMITTED, mechanism: { handled: false, type: 'fastify' } }
  if (error === undefined) {
    client.captureEvent({ message: `${method} ${route} answered ${statusCode}`, level: 'error' }, hint, scope)
  } else {
    client.captureException(capturable(error), { ...hint, originalException: error }, scope)
    if (typeof error === 'object' && error !== null) captured.add(error)
  }
}

/** Captures the last failure of a job, in a scope of its own. */
export function captureJob(
  client: NodeClient,
  scope: Scope,
  observation: JobObservation,
  error: unknown,
  eventId: string,
  tagFields: readonly string[]
): void {
  const { job, attempt } = observation
  scope.setTransactionName(job)
  // Since the job has begun, a library may have said which one it is.
  scope.setTag('job', job)
  if (attempt !== undefined) scope.setTag('attempt', attempt)
  describeWork(scope, observation, tagFields)
  const hint = { event_id: eventId, data: ADMITTED, mechanism: { handled: false, type: 'job' } }
  client.captureException(capturable(error), { ...hint, originalException: error }, scope)
  if (typeof error === 'object' && error !== null) captured.add(error)
}

/** Labels the event with the fields and the trace of its request or job. */
function describeWork(
  scope: Scope,
  { fields, spanContext }: Pick<JobObservation, 'fields' | 'spanContext'>,
  tagFields: readonly string[]
): void {
  if (fields.size > 0) scope.setContext('fields', Object.fromEntries(fields))
  for (const name of tagFields) {
    const value = fields.get(name)
    if (value !== undefined && value !== null) scope.setTag(name, String(value))
  }
  if (!spanContext) return
  scope.setContext('trace', { trace_id: spanContext.traceId, span_id: spanContext.spanId })
  continueTrace(scope, spanContext)
}

function headersOf({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}
