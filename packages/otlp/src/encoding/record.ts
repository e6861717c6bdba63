import { attributesOf, valueField } from './attributes.ts'
import { fixed32, fixed64, hex, integer, text } from './protobuf.ts'

/** A log record as it is delivered. */
export interface LogRecord {
  /** Milliseconds since 1970. */
  timeMs: number
  /** From 1 to 24; 0: unknown. @see https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
  severityNumber: number
  /** The level by its name. */
  severityText: string
  /** What the record says, mostly a text; `undefined` for nothing. */
  body: unknown
  /** By name, as whatever JSON has. */
  attributes: Readonly<Record<string, unknown>>
  /** 32 hexadecimal digits. @default none */
  traceId?: string | undefined
  /** 16 hexadecimal digits. @default none */
  spanId?: string | undefined
  /** Those of W3C: 1 for a sampled trace. @default 0 */
  traceFlags?: number | undefined
  /** How many attributes were left out. @default 0 */
  droppedAttributesCount?: number | undefined
}

/** @see https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/logs/v1/logs.proto */
export function encodeRecord(record: LogRecord, observedMs: number): string {
  const { severityNumber, severityText, body, traceId, spanId, traceFlags = 0, droppedAttributesCount = 0 } = record
  return (
    milliseconds(1, record.timeMs) +
    integer(2, severityNumber) +
    text(3, severityText) +
    (body === undefined ? '' : valueField(5, body)) +
    attributesOf(6, record.attributes) +
    integer(7, droppedAttributesCount) +
    (traceFlags ? fixed32(8, traceFlags) : '') +
    (traceId ? hex(9, traceId) : '') +
    (spanId ? hex(10, spanId) : '') +
    milliseconds(11, observedMs)
  )
}

export function milliseconds(field: number, ms: number): string {
  const whole = Math.floor(ms)
  // The lower half is exact; for the upper one near is enough.
  const low = (Math.imul(whole % 2 ** 32, 1e6) + Math.round((ms - whole) * 1e6)) >>> 0
  return fixed64(field, low, Math.round((ms * 1e6 - low) / 2 ** 32))
}
