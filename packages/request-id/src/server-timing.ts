import { elapsedMs, isRecord, type RequestObservation } from '@fastify-observability/observation/internal'
import { TraceFlags } from '@opentelemetry/api'

export const SERVER_TIMING = 'server-timing'

// Small whole numbers have their text at hand, fractions have not.
const TENTHS = ['.0', '.1', '.2', '.3', '.4', '.5', '.6', '.7', '.8', '.9']

/**
 * Adds to the answer's `server-timing`, while its headers are written.
 * @param isReplys whether `written` holds the headers of Fastify's reply: setting one there is quicker than asking the reply.
 */
export function addServerTiming(
  observation: RequestObservation,
  written: unknown,
  isReplys: boolean,
  withTraceparent: boolean
): void {
  const { reply, response } = observation
  const timing = withTraceparent ? totalOf(observation) + traceparentOf(observation) : totalOf(observation)
  if (isReplys && isRecord(written) && !(SERVER_TIMING in written) && !response.hasHeader(SERVER_TIMING)) {
    written[SERVER_TIMING] = timing
    return
  }
  // A stream's headers are on the response already.
  const sent = response.getHeader(SERVER_TIMING)
  const own = sent ?? reply?.getHeader(SERVER_TIMING)
  const value = own === undefined ? timing : `${own}, ${timing}`
  if (sent === undefined) observation.setHeader(SERVER_TIMING, value)
  else response.setHeader(SERVER_TIMING, value)
}

function totalOf({ startedAt, headersAt = startedAt }: RequestObservation): string {
  const tenths = Math.round(10 * elapsedMs(startedAt, headersAt))
  return `total;dur=${Math.floor(tenths / 10)}${TENTHS[tenths % 10]}`
}

// https://www.w3.org/TR/trace-context/#traceparent-header
function traceparentOf({ spanContext }: RequestObservation): string {
  if (!spanContext || (spanContext.traceFlags & TraceFlags.SAMPLED) === 0) return ''
  const { traceId, spanId, traceFlags } = spanContext
  return `, traceparent;desc="00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}"`
}
