import { existsSync, readFileSync } from 'node:fs'

export type Value = string | number | boolean
export type Attributes = Record<string, Value>

/** A span as it arrived at the collector. */
export interface SentSpan {
  service: string
  traceId: string
  spanId: string
  /** Empty for a root. */
  parentSpanId: string
  name: string
  /** As OTLP names it, such as `SPAN_KIND_SERVER`. */
  kind: string
  /** As OTLP names it, such as `STATUS_CODE_ERROR`. */
  status: string
  seconds: number
  attributes: Attributes
  resource: Attributes
}

/** A log record as it arrived at the collector. */
export interface SentLog {
  service: string
  traceId: string
  body: string
  severity: string
  attributes: Attributes
  resource: Attributes
}

interface AnyValue {
  stringValue?: string
  intValue?: string
  doubleValue?: number
  boolValue?: boolean
  arrayValue?: { values?: AnyValue[] }
  kvlistValue?: { values?: KeyValue[] }
}
interface KeyValue {
  key: string
  value: AnyValue
}
interface Resource {
  attributes?: KeyValue[]
}
interface WireSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind?: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  status?: { code?: number }
  attributes?: KeyValue[]
}
interface WireLog {
  traceId?: string
  severityText?: string
  body?: AnyValue
  attributes?: KeyValue[]
}
interface Traces {
  resourceSpans: { resource: Resource; scopeSpans: { spans?: WireSpan[] }[] }[]
}
interface Logs {
  resourceLogs: { resource: Resource; scopeLogs: { logRecords?: WireLog[] }[] }[]
}

const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER']
const STATUSES = ['UNSET', 'OK', 'ERROR']
const NANOSECONDS = 1e9

/** The spans in the file that the collector writes, in the order in which they came. */
export function readSpans(file: string): SentSpan[] {
  return batches<Traces>(file).flatMap(({ resourceSpans }) =>
    resourceSpans.flatMap(({ resource, scopeSpans }) => {
      const shared = plain(resource.attributes)
      return scopeSpans.flatMap(({ spans = [] }) => spans.map((span) => readSpan(span, shared)))
    })
  )
}

function readSpan(span: WireSpan, resource: Attributes): SentSpan {
  return {
    service: String(resource['service.name'] ?? ''),
    traceId: span.traceId,
    spanId: span.spanId,
    parentSpanId: span.parentSpanId ?? '',
    name: span.name,
    kind: `SPAN_KIND_${KINDS[span.kind ?? 0]}`,
    status: `STATUS_CODE_${STATUSES[span.status?.code ?? 0]}`,
    seconds: Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / NANOSECONDS,
    attributes: plain(span.attributes),
    resource
  }
}

/** The log records in the file that the collector writes. */
export function readLogs(file: string): SentLog[] {
  return batches<Logs>(file).flatMap(({ resourceLogs }) =>
    resourceLogs.flatMap(({ resource, scopeLogs }) => {
      const shared = plain(resource.attributes)
      return scopeLogs.flatMap(({ logRecords = [] }) =>
        logRecords.map(({ traceId = '', severityText = '', body, attributes }) => ({
          service: String(shared['service.name'] ?? ''),
          traceId,
          body: body?.stringValue ?? '',
          severity: severityText,
          attributes: plain(attributes),
          resource: shared
        }))
      )
    })
  )
}

/** Whole lines only: the collector may be in the middle of the last one. */
function batches<Batch>(file: string): Batch[] {
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

/** Maps become attributes of their own, with an underscore between the names, as Loki flattens them. */
function plain(attributes: KeyValue[] = [], prefix = ''): Attributes {
  const found: Attributes = {}
  for (const { key, value } of attributes) {
    const name = prefix + key
    if (value.kvlistValue) Object.assign(found, plain(value.kvlistValue.values, `${name}_`))
    else found[name] = single(value)
  }
  return found
}

function single({ stringValue, intValue, doubleValue, boolValue, arrayValue }: AnyValue): Value {
  if (intValue !== undefined) return Number(intValue)
  return stringValue ?? doubleValue ?? boolValue ?? (arrayValue?.values ?? []).map(single).join()
}
