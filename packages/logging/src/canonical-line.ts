import type { Observation, Outcome, Redactor } from '@fastify-observability/observation'

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
  { route, raw, clientAddress, sentryEventId }: Observation,
  { statusCode, aborted, durationMs, ttfbMs, responseBytes, error }: Outcome
): object {
  return {
    route,
    status_code: statusCode,
    duration_ms: micros(durationMs),
    ttfb_ms: ttfbMs === undefined ? undefined : micros(ttfbMs),
    response_bytes: responseBytes,
    client_ip: clientAddress,
    user_agent: raw.headers['user-agent'],
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
): ((observation: Observation, outcome: Outcome) => string) | undefined {
  if (FIELDS.some(isSecret)) return undefined
  const routes = new Map<string, string>()

  function routeText(route: string): string {
    const known = routes.get(route)
    if (known !== undefined) return known
    const text = `,"route":${quote(route)}`
    routes.set(route, text)
    return text
  }

  function field(name: string, text: string | undefined): string {
    return text === undefined ? '' : `,"${name}":${quote(text)}`
  }

  return ({ route, raw, clientAddress, sentryEventId }, { statusCode, aborted, durationMs, ttfbMs, responseBytes }) =>
    `${routeText(route)},"status_code":${statusCode},"duration_ms":${micros(durationMs)}` +
    (ttfbMs === undefined ? '' : `,"ttfb_ms":${micros(ttfbMs)}`) +
    `,"response_bytes":${responseBytes}` +
    field('client_ip', clientAddress) +
    field('user_agent', raw.headers['user-agent']) +
    `,"aborted":${aborted}` +
    field('sentry_event_id', sentryEventId)
}

function micros(ms: number): number {
  return Math.round(ms * 1000) / 1000
}
