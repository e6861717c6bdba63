import type { Outcome } from '@fastify-observability/observation'
import { elapsedMs, type LogLine, type RequestObservation } from '@fastify-observability/observation/internal'
import type { Attributes, HrTime, SpanContext, SpanKind, SpanStatus } from '@opentelemetry/api'
import { chainOf, type RecordedError } from './error.ts'
import { sizeOf } from './size.ts'

/** What is read of a span of OpenTelemetry's SDK. */
export interface StartedSpan {
  spanContext(): SpanContext
  readonly parentSpanContext?: SpanContext | undefined
}

export interface EndedSpan extends StartedSpan {
  readonly name: string
  readonly kind: SpanKind
  readonly startTime: HrTime
  readonly duration: HrTime
  readonly attributes: Attributes
  readonly status: SpanStatus
  readonly instrumentationScope: { readonly name: string }
}

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

/** What a row of the list is made from. */
export interface StoryHead {
  readonly timeMs: number
  readonly method: string
  readonly url: string
  readonly requestId: string | undefined
  readonly traceId: string | undefined
  route: string
  /** The five are of an ended request. */
  statusCode?: number
  durationMs?: number
  ttfbMs?: number | undefined
  aborted?: boolean
  error?: string | undefined
}

/** The rest. */
export interface StoryBody {
  readonly correlationId: string | undefined
  readonly spanId: string | undefined
  readonly httpVersion: string
  /** Names and values in turn: a list is written faster than an object. */
  readonly headers: readonly unknown[]
  readonly lines: RecordedLine[]
  readonly spans: RecordedSpan[]
  /** Whether `keep` has written its lines below the level. */
  isKept?: boolean
  ending?: Ending
}

export interface Ending extends Pick<Outcome, 'errorType' | 'requestBytes' | 'responseBytes'> {
  readonly errors: readonly RecordedError[]
  readonly fields: Readonly<Record<string, unknown>>
  readonly responseHeaders: readonly unknown[]
  readonly sentryEventId: string | undefined
  readonly clientAddress: string | undefined
}

/** Whether a header's value may be kept. */
export type IsSecret = (name: string) => boolean

/** Receives how many bytes more a story holds, or fewer. */
export type Weigh = (story: Story, bytes: number) => void

const MAX_ITEMS = 500
const MAX_BYTES = 1024 * 1024
// Of an object itself, beside its texts.
const OWN_BYTES = 500
const ITEM_BYTES = 200
// With its headers, which a server takes 16 KiB of; its end says how much it is.
const OPEN_BYTES = 3_000

/**
 * What is kept of one request: while it runs as objects, and after its end as bytes. Objects that outlive a collection make
 * V8 enlarge the space for new ones, by tens of megabytes.
 */
export class Story {
  readonly id: string
  /** Of all its spans, ended or not. */
  readonly spanIds: string[] = []
  /** Lines and spans that are too many to keep. */
  unshown = 0
  bytes: number
  private readonly timeMs: number
  private readonly startedAt: number
  private items = 0
  private readonly weigh: Weigh
  private open: { head: StoryHead; body: StoryBody } | undefined
  /** The head, and from `bodyAt` on the body. */
  private packed: Buffer | undefined
  private bodyAt = 0
  /** What came after the end. */
  private late: Pick<StoryBody, 'lines' | 'spans'> | undefined

  constructor(id: string, observation: RequestObservation, isSecret: IsSecret, weigh: Weigh) {
    const { startedAt, method, url, route, requestId, correlationId, spanContext, raw, headers } = observation
    this.id = id
    this.weigh = weigh
    this.timeMs = Date.now()
    this.startedAt = startedAt
    this.open = {
      head: { timeMs: this.timeMs, method, url, route, requestId, traceId: spanContext?.traceId },
      body: {
        correlationId,
        spanId: spanContext?.spanId,
        httpVersion: raw.httpVersion,
        headers: withoutSecrets(headers, isSecret),
        lines: [],
        spans: []
      }
    }
    this.bytes = OPEN_BYTES + url.length
  }

  get head(): StoryHead {
    if (this.open) return this.open.head
    const head: StoryHead = JSON.parse(String(this.packed?.subarray(0, this.bodyAt)))
    return head
  }

  get body(): StoryBody {
    if (this.open) return this.open.body
    const body: StoryBody = JSON.parse(String(this.packed?.subarray(this.bodyAt)))
    if (!this.late) return body
    return { ...body, lines: [...body.lines, ...this.late.lines], spans: [...body.spans, ...this.late.spans] }
  }

  addLine(line: LogLine): void {
    if (!this.hasRoom(ITEM_BYTES + sizeOf(line.message) + sizeOf(line.fields))) return
    this.growing.lines.push({ ...line, atMs: elapsedMs(this.startedAt) })
  }

  keep(): void {
    if (this.open) this.open.body.isKept = true
  }

  addSpan(span: EndedSpan): void {
    const { name, kind, startTime, duration, attributes, parentSpanContext, status, instrumentationScope } = span
    if (!this.hasRoom(ITEM_BYTES + sizeOf(name) + sizeOf(attributes))) return
    this.growing.spans.push({
      id: span.spanContext().spanId,
      parentId: parentSpanContext?.spanId,
      name,
      kind,
      scope: instrumentationScope.name,
      startMs: millisecondsOf(startTime),
      durationMs: millisecondsOf(duration),
      attributes,
      isError: status.code === 2 || attributes['error.type'] !== undefined
    })
  }

  end(observation: RequestObservation, outcome: Outcome, isSecret: IsSecret): void {
    if (!this.open) return
    const { head, body } = this.open
    const { statusCode, durationMs, ttfbMs, aborted, error, errorType, requestBytes, responseBytes } = outcome
    const { route, fields, sentryEventId, clientAddress } = observation
    const errors = error === undefined ? [] : chainOf(error)
    const [thrown] = errors
    Object.assign(head, { route, statusCode, durationMs, ttfbMs, aborted })
    head.error = thrown && `${thrown.type}: ${thrown.message}`
    body.ending = {
      errors,
      errorType,
      requestBytes,
      responseBytes,
      sentryEventId,
      clientAddress,
      fields: Object.fromEntries(fields),
      responseHeaders: withoutSecrets(headersOf(observation), isSecret)
    }
    const first = textOf(head)
    this.packed = Buffer.from(first + textOf(body))
    this.bodyAt = Buffer.byteLength(first)
    this.open = undefined
    const before = this.bytes
    this.bytes = OWN_BYTES + this.packed.length
    this.weigh(this, this.bytes - before)
  }

  private get growing(): Pick<StoryBody, 'lines' | 'spans'> {
    if (this.open) return this.open.body
    this.late ??= { lines: [], spans: [] }
    return this.late
  }

  private hasRoom(bytes: number): boolean {
    if (this.items === MAX_ITEMS || this.bytes + bytes > MAX_BYTES) {
      this.unshown++
      return false
    }
    this.items++
    this.bytes += bytes
    this.weigh(this, bytes)
    return true
  }
}

function textOf(value: object): string {
  try {
    return JSON.stringify(value)
  } catch {
    // JSON has no large integers.
    return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? String(inner) : inner))
  }
}

function millisecondsOf([seconds, nanoseconds]: HrTime): number {
  return seconds * 1_000 + nanoseconds / 1e6
}

function withoutSecrets(headers: Readonly<Record<string, unknown>>, isSecret: IsSecret): unknown[] {
  const kept: unknown[] = []
  for (const name in headers) kept.push(name, isSecret(name) ? '[redacted]' : headers[name])
  return kept
}

function headersOf({ response, reply }: RequestObservation): Readonly<Record<string, unknown>> {
  return reply ? reply.getHeaders() : response.getHeaders()
}
