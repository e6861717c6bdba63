import type { Outcome } from '@fastify-observability/observation'
import type { RequestObservation } from '@fastify-observability/observation/internal'
import { shortened } from './caller-text.ts'
import { inOnePiece, memoize } from './memoize.ts'

/** Text as it may stand in a line: without secrets, in quotes. */
type Quote = (text: string) => string

/** A field of the canonical line, `undefined` where a request has no such value. */
export interface CanonicalField {
  readonly name: string
  /** Its value, for pino to write. */
  value(observation: RequestObservation, outcome: Outcome): unknown
  /** Makes the function that writes it as JSON, name and leading comma included. */
  writer(quote: Quote): (observation: RequestObservation, outcome: Outcome) => string
}

/** How the values of a field become JSON. */
interface Format<Value> {
  value(value: Value): unknown
  writer(name: string, quote: Quote): (value: Value) => string
}

function field<Value>(
  name: string,
  read: (observation: RequestObservation, outcome: Outcome) => Value,
  format: Format<Value>
): CanonicalField {
  return {
    name,
    value: (observation, outcome) => format.value(read(observation, outcome)),
    writer(quote) {
      const write = format.writer(`,"${name}":`, quote)
      return (observation, outcome) => write(read(observation, outcome))
    }
  }
}

/** A value of which a service has few. */
const oneOfFew: Format<string | number | boolean> = {
  value: (value) => value,
  writer: (name, quote) => memoize((value) => inOnePiece(name + (typeof value === 'string' ? quote(value) : value)))
}

/** A text that one request after the other often has the same. */
const recurring: Format<string | undefined> = {
  value: (text) => text,
  writer(name, quote) {
    let last: string | undefined
    let written = ''
    return (text) => {
      if (text === last) return written
      written = text === undefined ? '' : name + quote(text)
      last = text
      return written
    }
  }
}

const number: Format<number | undefined> = {
  value: (value) => value,
  writer: (name) => (value) => (value === undefined ? '' : name + value)
}

// Small whole numbers have their text at hand, fractions have not.
const THOUSANDTHS = Array.from({ length: 1000 }, (_, part) => String(part / 1000).slice(1))

/** A fake clock of a test may go back. */
function microsOf(ms: number): number {
  return Math.max(Math.round(ms * 1000), 0) || 0
}

export function toMicroseconds(ms: number): number {
  return microsOf(ms) / 1000
}

/** To the microsecond. */
const milliseconds: Format<number | undefined> = {
  value: (ms) => (ms === undefined ? undefined : toMicroseconds(ms)),
  writer: (name) => (ms) => {
    if (ms === undefined) return ''
    const micros = microsOf(ms)
    return `${name}${Math.floor(micros / 1000)}${THOUSANDTHS[micros % 1000]}`
  }
}

function userAgentOf(header: string | undefined): string | undefined {
  return header === undefined ? undefined : shortened(header)
}

/** What the canonical line of a request says beside its context, in the order of the line. */
export const CANONICAL: readonly CanonicalField[] = [
  field('route', ({ route }) => route, oneOfFew),
  field('status_code', (_request, { statusCode }) => statusCode, oneOfFew),
  field('duration_ms', (_request, { durationMs }) => durationMs, milliseconds),
  field('ttfb_ms', (_request, { ttfbMs }) => ttfbMs, milliseconds),
  field('response_bytes', (_request, { responseBytes }) => responseBytes, number),
  field('client_ip', ({ clientAddress }) => clientAddress, recurring),
  field('user_agent', ({ headers }) => userAgentOf(headers['user-agent']), recurring),
  field('aborted', (_request, { aborted }) => aborted, oneOfFew),
  field('db_calls', ({ databaseCalls }) => databaseCalls || undefined, number),
  field('db_ms', ({ databaseCalls, databaseMs }) => (databaseCalls > 0 ? databaseMs : undefined), milliseconds),
  field('sentry_event_id', ({ sentryEventId }) => sentryEventId, recurring)
]

/** What a line says of the request that it belongs to. */
export type ContextName = (typeof CONTEXT_NAMES)[number]

const CONTEXT_NAMES = ['request_id', 'correlation_id', 'method', 'path', 'trace_id', 'span_id'] as const
const JOB_NAMES = ['job', 'attempt']
const LINE_NAMES = ['level', 'time', 'msg', 'service', 'version', 'environment']

/** Names that no field of the user's can take at the top of a line. */
export const RESERVED_NAMES: readonly string[] = [...LINE_NAMES, ...CONTEXT_NAMES]

/** Names whose values an allow-list keeps, listed or not. */
export const OWN_NAMES: readonly string[] = [
  ...RESERVED_NAMES,
  ...CANONICAL.map(({ name }) => name),
  ...JOB_NAMES,
  ...['err', 'req', 'res', 'observer']
]
