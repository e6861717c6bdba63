import type { Outcome } from '@fastify-observability/observation'
import type { Redactor, RequestObservation } from '@fastify-observability/observation/internal'
import { inOnePiece, remembered } from './remembered.ts'

const FIELDS = [
  'route',
  'status_code',
  'duration_ms',
  'ttfb_ms',
  'response_bytes',
  'client_ip',
  'user_agent',
  'aborted',
  'sentry_event_id'
]

/** What the canonical line of a request says beside its context. */
export function canonicalFields(
  { route, headers, clientAddress, sentryEventId }: RequestObservation,
  { statusCode, aborted, durationMs, ttfbMs, responseBytes, error }: Outcome
): object {
  return {
    route,
    status_code: statusCode,
    duration_ms: micros(durationMs),
    ttfb_ms: ttfbMs === undefined ? undefined : micros(ttfbMs),
    response_bytes: responseBytes,
    client_ip: clientAddress,
    user_agent: headers['user-agent'],
    aborted,
    sentry_event_id: sentryEventId,
    ...(error !== undefined && { err: error })
  }
}

/**
 * Makes the function that writes the same fields, without an error, as JSON; `undefined` when the user keeps one of them
 * secret. Every request has this line, and nearly all of it is numbers and what the route says.
 */
export function canonicalText(
  { isSecret }: Redactor,
  quote: (text: string) => string
): ((observation: RequestObservation, outcome: Outcome) => string) | undefined {
  if (FIELDS.some(isSecret)) return undefined
  const headOf = remembered((route: string) =>
    remembered((status: number) => inOnePiece(`,"route":${quote(route)},"status_code":${status},"duration_ms":`))
  )
  const clientIp = field('client_ip')
  const userAgent = field('user_agent')
  const sentryEventId = field('sentry_event_id')

  /** A field of which one request after the other often has the same. */
  function field(name: string): (text: string | undefined) => string {
    let last: string | undefined
    let written = ''
    return (text) => {
      if (text === last) return written
      written = text === undefined ? '' : `,"${name}":${quote(text)}`
      last = text
      return written
    }
  }

  return (observation, { statusCode, aborted, durationMs, ttfbMs, responseBytes }) =>
    headOf(observation.route)(statusCode) +
    microsText(durationMs) +
    (ttfbMs === undefined ? '' : `,"ttfb_ms":${microsText(ttfbMs)}`) +
    `,"response_bytes":${responseBytes}` +
    clientIp(observation.clientAddress) +
    userAgent(observation.headers['user-agent']) +
    (aborted ? ',"aborted":true' : ',"aborted":false') +
    sentryEventId(observation.sentryEventId)
}

function micros(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

// Small whole numbers have their text at hand, fractions have not.
const THOUSANDTHS = Array.from({ length: 1000 }, (_, part) => String(part / 1000).slice(1))

/** The same as text. */
function microsText(ms: number): string {
  const whole = Math.round(ms * 1000)
  return `${Math.floor(whole / 1000)}${THOUSANDTHS[whole % 1000]}`
}
