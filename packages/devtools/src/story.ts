import type { Outcome } from '@fastify-observability/observation'
import type { LogLine, RequestObservation } from '@fastify-observability/observation/internal'
import { elapsedMs } from '@fastify-observability/observation/internal'
import type { Attributes, HrTime } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { chainOf, type RecordedError } from './error.ts'
import { sizeOf } from './size.ts'

export interface RecordedLine extends LogLine {
  /** Milliseconds since the request arrived. */
  readonly atMs: number
}

export interface RecordedSpan {
  readonly id: string
  readonly parentId: string | undefined
  readonly name: string
  readonly kind: number
  readonly scope: string
  /** Milliseconds since the epoch. */
  readonly startMs: number
  readonly durationMs: number
  readonly attributes: Attributes
  readonly isError: boolean
}

/** What is kept of an ended request: nothing that keeps the request itself. */
export interface Ending extends Omit<Outcome, 'error'> {
  readonly error: readonly RecordedError[]
  readonly route: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly responseHeaders: Readonly<Record<string, unknown>>
  readonly sentryEventId: string | undefined
  readonly clientAddress: string | undefined
}

/** Whether a header's value may be kept. */
export type IsSecret = (name: string) => boolean

const MAX_LINES = 500
const MAX_SPANS = 500
const MAX_BYTES = 1024 * 1024
// Of the object itself, beside its texts.
const OWN_BYTES = 1_000
const LINE_BYTES = 150
const SPAN_BYTES = 300

/** What is kept of one request, while it runs and after. */
export class Story {
  readonly id: string
  readonly timeMs: number = Date.now()
  readonly startedAt: number
  readonly method: string
  readonly url: string
  readonly route: string
  readonly requestId: string | undefined
  readonly correlationId: string | undefined
  readonly traceId: string | undefined
  readonly spanId: string | undefined
  readonly httpVersion: string
  readonly headers: Readonly<Record<string, unknown>>
  readonly lines: RecordedLine[] = []
  readonly spans: RecordedSpan[] = []
  /** Of all its spans, ended or not. */
  readonly spanIds: string[] = []
  /** Lines and spans that are too many to keep. */
  unshown = 0
  bytes = 0
  ending: Ending | undefined

  constructor(id: string, observation: RequestObservation, isSecret: IsSecret) {
    this.id = id
    this.startedAt = observation.startedAt
    this.method = observation.method
    this.url = observation.url
    this.route = observation.route
    this.requestId = observation.requestId
    this.correlationId = observation.correlationId
    this.traceId = observation.spanContext?.traceId
    this.spanId = observation.spanContext?.spanId
    this.httpVersion = observation.raw.httpVersion
    this.headers = withoutSecrets(observation.headers, isSecret)
    this.bytes = OWN_BYTES + sizeOf(this.url) + sizeOf(this.headers)
  }

  /** @returns how many bytes more it holds. */
  addLine(line: LogLine): number {
    const bytes = LINE_BYTES + sizeOf(line.message) + sizeOf(line.fields)
    if (this.lines.length >= MAX_LINES) return this.omit()
    return this.keep(bytes, this.lines, { ...line, atMs: elapsedMs(this.startedAt) })
  }

  addSpan(span: ReadableSpan): number {
    const { name, kind, startTime, duration, attributes, parentSpanContext, status, instrumentationScope } = span
    if (this.spans.length >= MAX_SPANS) return this.omit()
    const recorded: RecordedSpan = {
      id: span.spanContext().spanId,
      parentId: parentSpanContext?.spanId,
      name,
      kind,
      scope: instrumentationScope.name,
      startMs: millisecondsOf(startTime),
      durationMs: millisecondsOf(duration),
      attributes,
      isError: status.code === 2 || attributes['error.type'] !== undefined
    }
    return this.keep(SPAN_BYTES + sizeOf(name) + sizeOf(attributes), this.spans, recorded)
  }

  end(observation: RequestObservation, { error, ...outcome }: Outcome, isSecret: IsSecret): number {
    this.ending = {
      ...outcome,
      error: error === undefined ? [] : chainOf(error),
      route: observation.route,
      fields: Object.fromEntries(observation.fields),
      responseHeaders: withoutSecrets(headersOf(observation), isSecret),
      sentryEventId: observation.sentryEventId,
      clientAddress: observation.clientAddress
    }
    const bytes = sizeOf(this.ending)
    this.bytes += bytes
    return bytes
  }

  private keep<Item>(bytes: number, list: Item[], item: Item): number {
    if (this.bytes + bytes > MAX_BYTES) return this.omit()
    list.push(item)
    this.bytes += bytes
    return bytes
  }

  private omit(): number {
    this.unshown++
    return 0
  }
}

export function millisecondsOf([seconds, nanoseconds]: HrTime): number {
  return seconds * 1_000 + nanoseconds / 1e6
}

function withoutSecrets(headers: object, isSecret: IsSecret): Record<string, unknown> {
  const kept: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(headers)) kept[name] = isSecret(name) ? '[redacted]' : value
  return kept
}

// Those of Fastify's reply are not the response's when its answer was streamed.
function headersOf({ response, reply }: RequestObservation): object {
  return { ...response.getHeaders(), ...reply?.getHeaders() }
}
