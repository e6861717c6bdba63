import type { Outcome } from '@fastify-observability/observation'
import type { RequestObservation } from '@fastify-observability/observation/internal'
import { chainOf, type RecordedError } from './error.ts'
import type { Beginning, End } from './story.ts'

/** Whether a header's value is a secret, by its name. */
export type IsSecret = (name: string) => boolean

/** What is known of a request when it begins. */
export function beginningOf(observation: RequestObservation, isSecret: IsSecret): Beginning {
  const { startedAt, method, url, route, requestId, correlationId, spanContext, raw, headers } = observation
  return {
    startedAt,
    head: { method, url, route, requestId, traceId: spanContext?.traceId },
    correlationId,
    spanId: spanContext?.spanId,
    httpVersion: raw.httpVersion,
    headers: withoutSecrets(headers, isSecret)
  }
}

/** What is known of it when it has ended. */
export function endOf(observation: RequestObservation, outcome: Outcome, isSecret: IsSecret): End {
  const { statusCode, durationMs, ttfbMs, aborted, error, errorType, requestBytes, responseBytes } = outcome
  const { route, fields, sentryEventId, clientAddress } = observation
  const errors = chainOf(error)
  return {
    head: { route, statusCode, durationMs, ttfbMs, aborted, error: summaryOf(errors) },
    ending: {
      errors,
      errorType,
      requestBytes,
      responseBytes,
      sentryEventId,
      clientAddress,
      fields: Object.fromEntries(fields),
      responseHeaders: withoutSecrets(headersOf(observation), isSecret)
    }
  }
}

/** What a row says of an error. */
export function summaryOf([thrown]: readonly RecordedError[]): string | undefined {
  return thrown && `${thrown.type}: ${thrown.message}`
}

function withoutSecrets(headers: Readonly<Record<string, unknown>>, isSecret: IsSecret): unknown[] {
  const kept: unknown[] = []
  for (const name in headers) kept.push(name, isSecret(name) ? '[redacted]' : headers[name])
  return kept
}

function headersOf({ response, reply }: RequestObservation): Readonly<Record<string, unknown>> {
  return reply ? reply.getHeaders() : response.getHeaders()
}
