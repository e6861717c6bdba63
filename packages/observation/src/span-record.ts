import type { Attributes, HrTime, SpanContext, SpanKind, SpanStatus } from '@opentelemetry/api'

/** What is read of a span of OpenTelemetry's SDK when it starts. */
export interface StartedSpan {
  spanContext(): SpanContext
  readonly parentSpanContext?: SpanContext | undefined
}

/** What is read of it when it has ended. */
export interface FinishedSpan extends StartedSpan {
  readonly name: string
  readonly kind: SpanKind
  readonly startTime: HrTime
  readonly duration: HrTime
  readonly attributes: Attributes
  readonly status: SpanStatus
  readonly events: readonly { readonly name: string; readonly attributes?: Attributes | undefined }[]
  readonly links: readonly { readonly context: SpanContext }[]
  readonly instrumentationScope: { readonly name: string }
}

/** A span that has ended, as plain data. */
export interface SpanRecord {
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

export function spanRecordOf(span: FinishedSpan): SpanRecord {
  const { name, kind, startTime, duration, attributes, parentSpanContext, status, instrumentationScope } = span
  return {
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
}

function millisecondsOf([seconds, nanoseconds]: HrTime): number {
  return seconds * 1_000 + nanoseconds / 1e6
}
