import { EventEmitter, once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

export interface ReceivedSpan {
  traceId: string
  spanId: string
  parentSpanId: string
  name: string
  kind: 'INTERNAL' | 'SERVER' | 'CLIENT' | 'PRODUCER' | 'CONSUMER' | 'UNSPECIFIED'
  scope: string
  startMs: number
  durationMs: number
  attributes: Record<string, unknown>
  resource: Record<string, unknown>
  events: { name: string; attributes: Record<string, unknown> }[]
  status: 'UNSET' | 'OK' | 'ERROR'
}

export interface ReceivedLog {
  severity: string
  severityNumber: number
  body: unknown
  traceId: string
  spanId: string
  attributes: Record<string, unknown>
  resource: Record<string, unknown>
}

export interface Collector {
  url: string
  /** Everything received so far. */
  spans: ReceivedSpan[]
  logs: ReceivedLog[]
  /** Resolves with the first span that matches, received already or to come. */
  span(matches: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan>
  close(): Promise<void>
}

interface KeyValue {
  key: string
  value?: AnyValue
}
type AnyValue =
  | { value: 'string_value'; string_value: string }
  | { value: 'bool_value'; bool_value: boolean }
  | { value: 'int_value'; int_value: string }
  | { value: 'double_value'; double_value: number }
  | { value: 'array_value'; array_value: { values: AnyValue[] } }
  | { value: 'kvlist_value'; kvlist_value: { values: KeyValue[] } }

interface ExportRequest {
  resource_spans: {
    resource?: { attributes: KeyValue[] }
    scope_spans: { scope?: { name: string }; spans: WireSpan[] }[]
  }[]
}
interface WireSpan {
  trace_id: Buffer
  span_id: Buffer
  parent_span_id: Buffer
  name: string
  kind: number
  start_time_unix_nano: string
  end_time_unix_nano: string
  attributes: KeyValue[]
  events: { name: string; attributes: KeyValue[] }[]
  status?: { code: number }
}

interface LogsRequest {
  resource_logs: { resource?: { attributes: KeyValue[] }; scope_logs: { log_records: WireLog[] }[] }[]
}
interface WireLog {
  severity_number: number
  severity_text: string
  body?: AnyValue
  attributes: KeyValue[]
  trace_id: Buffer
  span_id: Buffer
}

const PROTO = fileURLToPath(new URL('../proto', import.meta.url))
const PACKAGE = 'opentelemetry.proto.collector'
const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const
const STATUSES = ['UNSET', 'OK', 'ERROR'] as const

function plain(value: AnyValue | undefined): unknown {
  switch (value?.value) {
    case 'string_value':
      return value.string_value
    case 'bool_value':
      return value.bool_value
    case 'int_value':
      return Number(value.int_value)
    case 'double_value':
      return value.double_value
    case 'array_value':
      return value.array_value.values.map(plain)
    case 'kvlist_value':
      return record(value.kvlist_value.values)
    default:
      return undefined
  }
}

function record(pairs: KeyValue[] = []): Record<string, unknown> {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, plain(value)]))
}

function received(span: WireSpan, scope: string, resource: Record<string, unknown>): ReceivedSpan {
  const start = BigInt(span.start_time_unix_nano)
  return {
    traceId: span.trace_id.toString('hex'),
    spanId: span.span_id.toString('hex'),
    parentSpanId: span.parent_span_id.toString('hex'),
    name: span.name,
    kind: KINDS[span.kind] ?? 'UNSPECIFIED',
    scope,
    startMs: Number(start) / 1e6,
    durationMs: Number(BigInt(span.end_time_unix_nano) - start) / 1e6,
    attributes: record(span.attributes),
    resource,
    events: span.events.map(({ name, attributes }) => ({ name, attributes: record(attributes) })),
    status: STATUSES[span.status?.code ?? 0] ?? 'UNSET'
  }
}

function receivedLog(log: WireLog, resource: Record<string, unknown>): ReceivedLog {
  return {
    severity: log.severity_text,
    severityNumber: log.severity_number,
    body: plain(log.body),
    traceId: log.trace_id.toString('hex'),
    spanId: log.span_id.toString('hex'),
    attributes: record(log.attributes),
    resource
  }
}

type Export<Request> = (call: { request: Request }, done: (error: null, response: object) => void) => void

/** A gRPC server that takes OTLP traces and logs and decodes their bytes. */
export async function startCollector(): Promise<Collector> {
  const definition = loadSync(['trace.proto', 'logs.proto'], {
    includeDirs: [PROTO],
    keepCase: true,
    longs: String,
    oneofs: true,
    defaults: true
  })
  const spans: ReceivedSpan[] = []
  const logs: ReceivedLog[] = []
  const arrivals = new EventEmitter()
  const server = new Server()

  function serve<Request>(name: string, take: (request: Request) => void): void {
    const service = definition[`${PACKAGE}.${name}`]
    if (!service || 'format' in service) throw new Error(`${name} is not in ${PROTO}`)
    const Export: Export<Request> = ({ request }, done) => {
      take(request)
      arrivals.emit('data')
      done(null, {})
    }
    server.addService(service, { Export })
  }
  serve('trace.v1.TraceService', ({ resource_spans }: ExportRequest) => {
    for (const { resource, scope_spans } of resource_spans) {
      for (const { scope, spans: batch } of scope_spans) {
        spans.push(...batch.map((span) => received(span, scope?.name ?? '', record(resource?.attributes))))
      }
    }
  })
  serve('logs.v1.LogsService', ({ resource_logs }: LogsRequest) => {
    for (const { resource, scope_logs } of resource_logs) {
      for (const { log_records } of scope_logs) {
        logs.push(...log_records.map((log) => receivedLog(log, record(resource?.attributes))))
      }
    }
  })

  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound)
    )
  })
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    logs,
    async span(matches) {
      for (;;) {
        const found = spans.find(matches)
        if (found) return found
        await once(arrivals, 'data')
      }
    },
    close: () => new Promise((resolve, reject) => server.tryShutdown((error) => (error ? reject(error) : resolve())))
  }
}
