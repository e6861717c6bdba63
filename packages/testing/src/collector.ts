import { EventEmitter, once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Metadata, Server, ServerCredentials } from '@grpc/grpc-js'
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
  events: { name: string; timeMs: number; attributes: Record<string, unknown> }[]
  links: { traceId: string; spanId: string }[]
  status: 'UNSET' | 'OK' | 'ERROR'
  statusMessage: string
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

/** How the collector answers a call for traces. What it refuses, rejects or never answers it does not keep. */
export type Answer =
  | 'accept'
  | 'never'
  /** The first spans of the call are rejected, the others accepted. */
  | { rejected: number }
  | { delayMs: number }
  /** A gRPC status, with a RetryInfo if `retryAfterSeconds` is given. */
  | { code: number; details?: string; retryAfterSeconds?: number }

export interface CollectorOptions {
  /** @default a free one */
  port?: number
  /** The answer to each call for traces, which are counted from 1. @default accepts all */
  answer?: (call: number) => Answer
}

export interface Collector {
  url: string
  /** Calls for traces so far, whatever the answer. */
  calls: number
  /** Everything received so far. */
  spans: ReceivedSpan[]
  logs: ReceivedLog[]
  /** Resolves with the first span that matches, received already or to come. */
  span(matches: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan>
  /** Resolves when so many calls for traces have come. */
  called(calls: number): Promise<void>
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
  events: { name: string; time_unix_nano: string; attributes: KeyValue[] }[]
  links: { trace_id: Buffer; span_id: Buffer }[]
  status?: { code: number; message: string }
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
    links: span.links.map((link) => ({ traceId: link.trace_id.toString('hex'), spanId: link.span_id.toString('hex') })),
    events: span.events.map(({ name, time_unix_nano, attributes }) => ({
      name,
      timeMs: Number(time_unix_nano) / 1e6,
      attributes: record(attributes)
    })),
    status: STATUSES[span.status?.code ?? 0] ?? 'UNSET',
    statusMessage: span.status?.message ?? ''
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

interface Call<Request> {
  request: Request
  cancelled: boolean
}
interface Refusal {
  code: number
  details: string
  metadata: Metadata
}
type Export<Request> = (call: Call<Request>, done: (refusal: Refusal | null, response: object) => void) => void

/** A protobuf field of number 1 to 15 that holds other fields or text. */
function field(number: number, ...parts: (Uint8Array | string)[]): Buffer {
  const content = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))
  return Buffer.concat([Buffer.of(number * 8 + 2), varint(content.length), content])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest % 128) + 128)
  }
}

function partialSuccess(rejected: number): Buffer {
  return field(1, Buffer.of(1 * 8), varint(rejected), field(2, 'rejected by the script'))
}

function refusal(code: number, details: string, retryAfterSeconds?: number): Refusal {
  const metadata = new Metadata()
  if (retryAfterSeconds !== undefined) {
    const retryInfo = field(1, Buffer.of(1 * 8), varint(retryAfterSeconds))
    const any = field(3, field(1, 'type.googleapis.com/google.rpc.RetryInfo'), field(2, retryInfo))
    metadata.set('grpc-status-details-bin', Buffer.concat([Buffer.of(1 * 8), varint(code), any]))
  }
  return { code, details, metadata }
}

/** A gRPC server that takes OTLP traces and logs, decodes their bytes and answers as a test wants. */
export async function startCollector({
  port: wanted = 0,
  answer = () => 'accept'
}: CollectorOptions = {}): Promise<Collector> {
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

  function serve<Request>(name: string, Export: Export<Request>): void {
    const service = definition[`${PACKAGE}.${name}`]
    if (!service || 'format' in service || !service.Export) throw new Error(`${name} is not in ${PROTO}`)
    // The answer of the definition is empty; a partial success is put in as bytes.
    const responseSerialize = (response: object): Buffer => (Buffer.isBuffer(response) ? response : Buffer.alloc(0))
    server.addService({ Export: { ...service.Export, responseSerialize } }, { Export })
  }
  function keep({ resource_spans }: ExportRequest, rejected = 0): void {
    const taken: ReceivedSpan[] = []
    for (const { resource, scope_spans } of resource_spans) {
      for (const { scope, spans: batch } of scope_spans) {
        taken.push(...batch.map((span) => received(span, scope?.name ?? '', record(resource?.attributes))))
      }
    }
    spans.push(...taken.slice(rejected))
    arrivals.emit('data')
  }
  serve<ExportRequest>('trace.v1.TraceService', (call, done) => {
    const answered = answer(++collector.calls)
    arrivals.emit('call')
    if (answered === 'never') return
    if (answered === 'accept') {
      keep(call.request)
      done(null, {})
    } else if ('rejected' in answered) {
      keep(call.request, answered.rejected)
      done(null, partialSuccess(answered.rejected))
    } else if ('delayMs' in answered) {
      setTimeout(() => {
        if (call.cancelled) return
        keep(call.request)
        done(null, {})
      }, answered.delayMs)
    } else {
      done(refusal(answered.code, answered.details ?? 'refused by the script', answered.retryAfterSeconds), {})
    }
  })
  serve<LogsRequest>('logs.v1.LogsService', ({ request }, done) => {
    for (const { resource, scope_logs } of request.resource_logs) {
      for (const { log_records } of scope_logs) {
        logs.push(...log_records.map((log) => receivedLog(log, record(resource?.attributes))))
      }
    }
    arrivals.emit('data')
    done(null, {})
  })

  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${wanted}`, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound)
    )
  })
  const collector: Collector = {
    url: `http://127.0.0.1:${port}`,
    calls: 0,
    spans,
    logs,
    async span(matches) {
      for (;;) {
        const found = spans.find(matches)
        if (found) return found
        await once(arrivals, 'data')
      }
    },
    async called(calls) {
      while (collector.calls < calls) await once(arrivals, 'call')
    },
    close: () => new Promise((resolve, reject) => server.tryShutdown((error) => (error ? reject(error) : resolve())))
  }
  return collector
}
