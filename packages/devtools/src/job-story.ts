import type { JobOrigin, JobOutcome } from '@fastify-observability/observation'
import type { JobObservation } from '@fastify-observability/observation/internal'
import { chainOf } from './error.ts'
import { summaryOf } from './request-story.ts'
import type { Beginning, End } from './story.ts'

/** What stands where a request has its method. */
const METHOD = 'JOB'
// https://www.w3.org/TR/trace-context/#traceparent-header-field-values
const TRACEPARENT = /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-/
const SPAN_ID = /^[\da-f]{16}$/

/** What is known of an attempt of a job when it begins. */
export function beginningOfJob(observation: JobObservation): Beginning {
  const { job, attempt, attempts, startedAt, requestId, correlationId, spanContext } = observation
  return {
    startedAt,
    head: { method: METHOD, url: job, route: job, requestId, traceId: spanContext?.traceId, attempt, attempts },
    correlationId,
    spanId: spanContext?.spanId,
    httpVersion: undefined,
    headers: []
  }
}

/** What is known of it when it has ended. */
export function endOfJob({ fields, sentryEventId }: JobObservation, outcome: JobOutcome): End {
  const { result, durationMs, error, errorType } = outcome
  const errors = chainOf(error)
  return {
    head: { result, durationMs, error: summaryOf(errors) },
    ending: {
      errors,
      errorType,
      requestBytes: undefined,
      responseBytes: undefined,
      sentryEventId,
      clientAddress: undefined,
      fields: Object.fromEntries(fields),
      responseHeaders: []
    }
  }
}

/** The spans that the job names as what has caused it. What came through a queue may be anything. */
export function causingSpans({ origins, parent }: JobObservation): string[] {
  return [parent, ...origins].map(spanIdOf).filter((id) => id !== undefined)
}

function spanIdOf(origin: JobOrigin | undefined): string | undefined {
  if (typeof origin === 'string') return TRACEPARENT.exec(origin)?.[2]
  const { spanId } = Object(origin)
  return typeof spanId === 'string' && SPAN_ID.test(spanId) ? spanId : undefined
}
