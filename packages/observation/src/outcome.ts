import type { ServerResponse } from 'node:http'
import type { Outcome } from './observation.ts'
import type { RequestObservation } from './request-observation.ts'
import { elapsedMs } from './time/elapsed.ts'
import { errorName } from './values/error-name.ts'
import { hasSentHeaders } from './values/headers-sent.ts'

/** How the request ends, if it ends now. */
export function outcomeOf(observation: RequestObservation): Outcome {
  const { response, error, refusal, startedAt, headersAt, requestBytes, responseBytes } = observation
  const upgraded = isUpgraded(observation)
  const firstByteAt = upgraded ? observation.upgradedAt : headersAt
  const headersSent = upgraded || hasSentHeaders(response)
  const aborted = !upgraded && !isFinished(response)
  const statusCode = upgraded ? 101 : headersSent ? response.statusCode : 499
  const outcome: Outcome = {
    statusCode,
    headersSent,
    aborted,
    error,
    errorType: errorTypeOf(observation, statusCode, aborted),
    durationMs: elapsedMs(startedAt),
    ttfbMs: firstByteAt === undefined ? undefined : elapsedMs(startedAt, firstByteAt),
    requestBytes,
    responseBytes
  }
  if (!refusal || headersSent) return outcome
  const { statusCode: refused, errorType } = refusal
  return { ...outcome, statusCode: refused, headersSent: true, aborted: false, error: refusal.error, errorType }
}

/** How it would end now if this status went out whole. */
export function outlookOf(observation: RequestObservation, statusCode: number): Outcome {
  const errorType = errorTypeOf(observation, statusCode, false)
  return { ...outcomeOf(observation), statusCode, headersSent: true, aborted: false, errorType }
}

// A WebSocket's 101 is written past the response, to the socket.
function isUpgraded({ headers, response, reply, upgradedAt }: RequestObservation): boolean {
  const isHandedOver = upgradedAt !== undefined && reply?.sent === true
  return isHandedOver && headers.upgrade !== undefined && !hasSentHeaders(response) && !response.writableEnded
}

function isFinished(response: ServerResponse): boolean {
  // light-my-request emits `close` with its output still on its null socket.
  if ('isLightMyRequest' in response) return response.writableEnded
  // HTTP/2's response has a stream instead, and emits `finish` for aborted ones too.
  if ('stream' in response && isHttp2Stream(response.stream)) return response.writableEnded && !response.stream.aborted
  return response.writableFinished
}

function isHttp2Stream(stream: unknown): stream is { aborted: boolean } {
  return typeof stream === 'object' && stream !== null && 'aborted' in stream
}

/** Whether load shedding has answered the request, health's or that of an @fastify/under-pressure of the application's. */
export function isShed({ errorType }: Outcome): boolean {
  return errorType === 'FST_UNDER_PRESSURE'
}

/** Whether the request has failed: by a 5xx, a response that broke half way, or an error given to `fail` below status 400. */
export function isFailure(
  { broken, failed }: RequestObservation,
  { statusCode, aborted }: Pick<Outcome, 'statusCode' | 'aborted'>
): boolean {
  return statusCode >= 500 || broken || (failed && statusCode < 400 && !aborted)
}

function errorTypeOf(observation: RequestObservation, statusCode: number, aborted: boolean): string | undefined {
  if (aborted && !observation.broken) return 'client_disconnect'
  // A code may be empty.
  return isFailure(observation, { statusCode, aborted })
    ? errorName(observation.error) || String(statusCode)
    : undefined
}
