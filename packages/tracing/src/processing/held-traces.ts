import { Holding, Holdings } from '@fastify-observability/observation/internal'
import { type Attributes, type Span, type SpanContext, TraceFlags, trace } from '@opentelemetry/api'
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace'

/** What traces have in common that begin here and are not sampled: their spans are held until it is known whether they are wanted. */
export interface HeldTraces extends HeldTracesOptions {
  readonly holdings: Holdings
  /** Stands before all other processors. */
  processor: SpanProcessor
}

export interface HeldTracesOptions {
  next: SpanProcessor
  /** Whether anybody receives what is kept: without them nothing is held. */
  hasReceivers(): boolean
  /** Whether others than the exporter receive spans: they get those that are not sampled, too. */
  isWatched: boolean
  /** Counts spans that fell out of a trace that was kept. */
  lose(spans: number): void
}

interface HeldSpan {
  span: ReadableSpan
  bytes: number
}

const MAX_SPANS = 256
const MAX_BYTES = 512 * 1024
const MAX_TOTAL_BYTES = 8 * 1024 * 1024
// About what an empty one takes in memory.
const SPAN_BYTES = 1_024
const ENTRY_BYTES = 32
const TRACE: unique symbol = Symbol('fastify-observability.tracing.trace')

/** The spans of one trace that have ended. */
class HeldSpans extends Holding {
  private spans: HeldSpan[] = []

  add(span: ReadableSpan): void {
    const bytes = sizeOf(span)
    if (bytes > MAX_BYTES) {
      this.missing++
      return
    }
    this.spans.push({ span, bytes })
    this.added(bytes)
    if (this.spans.length > MAX_SPANS) this.dropOldest()
  }

  take(): ReadableSpan[] {
    const taken = this.spans.map(({ span }) => span)
    this.spans = []
    this.removed(this.bytes)
    return taken
  }

  protected override forgetOldest(): void {
    this.removed(this.spans.shift()?.bytes ?? 0)
  }
}

/** A trace that is held, until `decide` is called. */
export class HeldTrace {
  // Declared only: profiles of some processes show the fields of a class that another extends defined by V8's runtime, which is slow.
  declare private readonly traces: HeldTraces
  declare private spans: HeldSpans | undefined
  declare private isKept: boolean | undefined

  constructor(traces: HeldTraces) {
    this.traces = traces
    this.isKept = undefined
    this.spans = undefined
  }

  /** Whether spans that begin now are recorded. */
  get isRecorded(): boolean {
    return this.isKept !== false
  }

  /** Whether its spans are received by somebody even where they are not kept. */
  get isWatched(): boolean {
    return this.traces.isWatched
  }

  /** Delivers the spans that have ended, and those that are yet to end, or forgets them. */
  decide(isKept: boolean): void {
    if (this.isKept !== undefined) return
    this.isKept = isKept
    const { spans } = this
    if (!spans) return
    for (const span of spans.take()) this.pass(span)
    if (isKept && spans.missing > 0) this.traces.lose(spans.missing)
    this.spans = undefined
  }

  /** A span of it has ended. */
  add(span: ReadableSpan): void {
    if (this.isKept === undefined) {
      this.spans ??= new HeldSpans(this.traces.holdings)
      this.spans.add(span)
    } else this.pass(span)
  }

  private pass(span: ReadableSpan): void {
    const { next, isWatched } = this.traces
    if (this.isKept) next.onEnd(asSampled(span))
    else if (isWatched) next.onEnd(span)
  }
}

/** The trace that is held with the span, if one is. */
export function heldTraceOf(span: Span | ReadableSpan | undefined): HeldTrace | undefined {
  if (span instanceof HeldTrace) return span
  const held = span && TRACE in span ? span[TRACE] : undefined
  return held instanceof HeldTrace ? held : undefined
}

/** Makes the span one of the trace. */
export function hold<Held extends object>(span: Held, held: HeldTrace): Held {
  Reflect.set(span, TRACE, held)
  return span
}

export function holdTraces(options: HeldTracesOptions): HeldTraces {
  const { next } = options
  const holdings = new Holdings({ maxBytes: MAX_BYTES, maxTotalBytes: MAX_TOTAL_BYTES })
  return {
    ...options,
    holdings,
    processor: {
      onStart(span, context) {
        const held = isSampled(span.spanContext()) ? undefined : heldTraceOf(trace.getSpan(context))
        if (held) hold(span, held)
        next.onStart(span, context)
      },
      onEnding: (span) => next.onEnding?.(span),
      onEnd(span) {
        const held = heldTraceOf(span)
        if (held) held.add(span)
        else next.onEnd(span)
      },
      forceFlush: () => next.forceFlush(),
      shutdown: () => next.shutdown()
    }
  }
}

function isSampled({ traceFlags }: SpanContext): boolean {
  return (traceFlags & TraceFlags.SAMPLED) !== 0
}

/** The span as exporters take it. Its own context stays: what it calls is told that it is not sampled. */
function asSampled(span: ReadableSpan): ReadableSpan {
  const context: SpanContext = { ...span.spanContext(), traceFlags: TraceFlags.SAMPLED }
  return Object.create(span, { spanContext: { value: () => context } })
}

function sizeOf({ name, attributes, events, links }: ReadableSpan): number {
  const parts = [...events, ...links].map(({ attributes }) => ENTRY_BYTES + sizeOfAttributes(attributes))
  return parts.reduce((sum, bytes) => sum + bytes, SPAN_BYTES + name.length + sizeOfAttributes(attributes))
}

function sizeOfAttributes(attributes: Attributes = {}): number {
  let bytes = 0
  for (const key in attributes) bytes += ENTRY_BYTES + key.length + sizeOfValue(attributes[key])
  return bytes
}

function sizeOfValue(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 0
  return Object.values(value).reduce<number>((sum, item) => sum + ENTRY_BYTES + sizeOfValue(item), 0)
}
