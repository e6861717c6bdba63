import { EventEmitter, once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { Metadata, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js'
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
  scope: { name: string; version: string }
  traceFlags: number
  droppedAttributesCount: number
  body: unknown
  traceId: string
  spanId: string
  attributes: Record<string, unknown>
  resource: Record<string, unknown>
}

export type Signal = 'traces' | 'logs' | 'metrics'

export interface ReceivedPoint {
  name: string
  description: string
  unit: string
  type: 'gauge' | 'sum' | 'histogram' | 'summary'
  temporality: 'cumulative' | 'delta' | undefined
  isMonotonic: boolean | undefined
  scope: { name: string; version: string }
  attributes: Record<string, unknown>
  resource: Record<string, unknown>
  startTimeMs: number
  timeMs: number
  /** Of gauges and sums. */
  value: number | undefined
  count: number
  sum: number
  bucketCounts: number[]
  explicitBounds: number[]
  quantiles: { quantile: number; value: number }[]
  exemplars: { traceId: string; spanId: string; value: number; timeMs: number; attributes: Record<string, unknown> }[]
}

/** How the collector answers a call. What it refuses, rejects or never answers it does not keep. */
export type Answer =
  | 'accept'
  | 'never'
  /** The first items of the call are rejected, the others accepted. */
  | { rejected: number }
  | { delayMs: number }
  /** A gRPC status, with a RetryInfo if `retryAfterSeconds` is given. */
  | { code: number; details?: string; retryAfterSeconds?: number }
  /** A status of HTTP, with a Retry-After if `retryAfterSeconds` is given. */
  | { status: number; retryAfterSeconds?: number }

export interface CollectorOptions {
  /** @default a free one */
  port?: number
  /** @default 'grpc' */
  protocol?: 'grpc' | 'http/protobuf'
  /** The answer to each call of a signal, which are counted from 1. @default accepts all */
  answer?: (call: number, signal: Signal) => Answer
  /** Requests above are refused as too large, as gRPC servers do by default. @default 4 MiB */
  maxRequestBytes?: number
}

export interface Collector {
  url: string
  /** Calls for traces so far, whatever the answer. */
  calls: number
  /** Calls for logs so far, whatever the answer. */
  logCalls: number
  /** Calls for metrics so far, whatever the answer. */
  metricCalls: number
  /** The headers of each call. */
  headers: Record<string, unknown>[]
  /** Everything received so far. */
  spans: ReceivedSpan[]
  logs: ReceivedLog[]
  points: ReceivedPoint[]
  /** The same, request by request: one that was accepted and not confirmed comes again. */
  requests: Record<Signal, object[][]>
  /** Resolves with the first span that matches, received already or to come. */
  span(matches: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan>
  /** Resolves when so many calls have come. */
  called(calls: number, signal?: Signal): Promise<void>
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
  resource_logs: {
    resource?: { attributes: KeyValue[] }
    scope_logs: { scope?: { name: string; version: string }; log_records: WireLog[] }[]
  }[]
}
interface WireLog {
  severity_number: number
  severity_text: string
  flags: number
  dropped_attributes_count: number
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

function receivedLog(
  log: WireLog,
  { name = '', version = '' }: { name?: string; version?: string } = {},
  resource: Record<string, unknown>
): ReceivedLog {
  return {
    severity: log.severity_text,
    severityNumber: log.severity_number,
    scope: { name, version },
    traceFlags: log.flags,
    droppedAttributesCount: log.dropped_attributes_count,
    body: plain(log.body),
    traceId: log.trace_id.toString('hex'),
    spanId: log.span_id.toString('hex'),
    attributes: record(log.attributes),
    resource
  }
}

interface MetricsRequest {
  resource_metrics: {
    resource?: { attributes: KeyValue[] }
    scope_metrics: { scope?: { name: string; version: string }; metrics: WireMetric[] }[]
  }[]
}
type WireMetric = { name: string; description: string; unit: string; data: ReceivedPoint['type'] } & Record<
  ReceivedPoint['type'],
  { data_points: WirePoint[]; aggregation_temporality?: number; is_monotonic?: boolean }
>
interface WirePoint {
  start_time_unix_nano: string
  time_unix_nano: string
  attributes: KeyValue[]
  as_double?: number
  count?: string
  sum?: number
  bucket_counts?: string[]
  explicit_bounds?: number[]
  quantile_values?: { quantile: number; value: number }[]
  exemplars?: {
    time_unix_nano: string
    as_double: number
    span_id: Buffer
    trace_id: Buffer
    filtered_attributes: KeyValue[]
  }[]
}

function receivedPoint(
  metric: WireMetric,
  point: WirePoint,
  { name = '', version = '' }: { name?: string; version?: string } = {},
  resource: Record<string, unknown>
): ReceivedPoint {
  const { aggregation_temporality: temporality = 0, is_monotonic } = metric[metric.data]
  return {
    name: metric.name,
    description: metric.description,
    unit: metric.unit,
    type: metric.data,
    temporality: ([undefined, 'delta', 'cumulative'] as const)[temporality],
    isMonotonic: is_monotonic,
    scope: { name, version },
    attributes: record(point.attributes),
    resource,
    startTimeMs: Number(point.start_time_unix_nano) / 1e6,
    timeMs: Number(point.time_unix_nano) / 1e6,
    value: point.as_double,
    count: Number(point.count ?? 0),
    sum: point.sum ?? 0,
    bucketCounts: (point.bucket_counts ?? []).map(Number),
    explicitBounds: point.explicit_bounds ?? [],
    quantiles: point.quantile_values ?? [],
    exemplars: (point.exemplars ?? []).map((exemplar) => ({
      traceId: exemplar.trace_id.toString('hex'),
      spanId: exemplar.span_id.toString('hex'),
      value: exemplar.as_double,
      timeMs: Number(exemplar.time_unix_nano) / 1e6,
      attributes: record(exemplar.filtered_attributes)
    }))
  }
}

interface Refusal {
  code: number
  details: string
  metadata: Metadata
}
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

function refusal(answer: { code: number; details?: string; retryAfterSeconds?: number } | { status: number }): Refusal {
  if (!('code' in answer)) throw new Error('a status of HTTP over gRPC')
  const { code, details = 'refused by the script', retryAfterSeconds } = answer
  const metadata = new Metadata()
  if (retryAfterSeconds !== undefined) {
    const retryInfo = field(1, Buffer.of(1 * 8), varint(retryAfterSeconds))
    const any = field(3, field(1, 'type.googleapis.com/google.rpc.RetryInfo'), field(2, retryInfo))
    metadata.set('grpc-status-details-bin', Buffer.concat([Buffer.of(1 * 8), varint(code), any]))
  }
  return { code, details, metadata }
}

const MAX_REQUEST_BYTES = 4 * 1024 * 1024
const CALLS = { traces: 'calls', logs: 'logCalls', metrics: 'metricCalls' } as const
const SERVICES = [
  ['traces', 'trace.v1.TraceService'],
  ['logs', 'logs.v1.LogsService'],
  ['metrics', 'metrics.v1.MetricsService']
] as const

/** What a call of gRPC or HTTP is to the collector. */
interface Served {
  isGone(): boolean
  accept(response: Buffer): void
  refuse(answer: { code: number } | { status: number }): void
}

/** A server that takes OTLP traces, logs and metrics over gRPC or HTTP, decodes their bytes and answers as a test wants. */
export async function startCollector({
  port: wanted = 0,
  protocol = 'grpc',
  answer = () => 'accept',
  maxRequestBytes = MAX_REQUEST_BYTES
}: CollectorOptions = {}): Promise<Collector> {
  const definition = loadSync(['trace.proto', 'logs.proto', 'metrics.proto'], {
    includeDirs: [PROTO],
    keepCase: true,
    longs: String,
    oneofs: true,
    defaults: true
  })
  const spans: ReceivedSpan[] = []
  const logs: ReceivedLog[] = []
  const points: ReceivedPoint[] = []
  const requests: Collector['requests'] = { traces: [], logs: [], metrics: [] }
  const arrivals = new EventEmitter()

  function methodOf(name: string) {
    const service = definition[`${PACKAGE}.${name}`]
    if (!service || 'format' in service || !service.Export) throw new Error(`${name} is not in ${PROTO}`)
    return service.Export
  }
  function keep(signal: Signal, request: object, rejected: number): void {
    function add<Item extends object>(all: Item[], items: Item[]): void {
      all.push(...items)
      requests[signal].push(items)
    }
    if (signal === 'traces') add(spans, spansIn(request as ExportRequest).slice(rejected))
    else if (signal === 'logs') add(logs, logsIn(request as LogsRequest).slice(rejected))
    else add(points, pointsIn(request as MetricsRequest).slice(rejected))
    arrivals.emit('data')
  }
  function serve(signal: Signal, request: object, headers: Record<string, unknown>, call: Served): void {
    collector.headers.push(headers)
    const answered = answer(++collector[CALLS[signal]], signal)
    arrivals.emit('call')
    if (answered === 'never') return
    if (answered === 'accept') {
      keep(signal, request, 0)
      call.accept(Buffer.alloc(0))
    } else if ('rejected' in answered) {
      keep(signal, request, answered.rejected)
      call.accept(partialSuccess(answered.rejected))
    } else if ('delayMs' in answered) {
      setTimeout(() => {
        if (call.isGone()) return
        keep(signal, request, 0)
        call.accept(Buffer.alloc(0))
      }, answered.delayMs)
    } else {
      call.refuse(answered)
    }
  }

  async function listenGrpc(): Promise<[port: number, close: () => Promise<void>]> {
    const server = new Server({ 'grpc.max_receive_message_length': maxRequestBytes })
    for (const [signal, name] of SERVICES) {
      // The answer of the definition is empty; a partial success is put in as bytes.
      const responseSerialize = (response: object): Buffer => (Buffer.isBuffer(response) ? response : Buffer.alloc(0))
      server.addService(
        { Export: { ...methodOf(name), responseSerialize } },
        {
          Export: (call: ServerUnaryCall<object, object>, done: sendUnaryData<object>) =>
            serve(signal, call.request, call.metadata.getMap(), {
              isGone: () => call.cancelled,
              accept: (response) => done(null, response),
              refuse: (answer) => done(refusal(answer), {})
            })
        }
      )
    }
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`127.0.0.1:${wanted}`, ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound)
      )
    })
    return [
      port,
      () => new Promise((resolve, reject) => server.tryShutdown((error) => (error ? reject(error) : resolve())))
    ]
  }

  async function listenHttp(): Promise<[port: number, close: () => Promise<void>]> {
    const server = createServer(async (request, response) => {
      const sent = await buffer(request).catch(() => undefined)
      // The sender has gone.
      if (!sent) return
      const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent
      const [signal, name] = SERVICES.find(([signal]) => request.url === `/v1/${signal}`) ?? []
      if (!signal || body.length > maxRequestBytes) return response.writeHead(signal ? 413 : 404).end()
      serve(signal, methodOf(name).requestDeserialize(body), request.headers, {
        isGone: () => response.destroyed,
        accept: (bytes) => response.setHeader('content-type', 'application/x-protobuf').end(bytes),
        refuse: (answer) => refuseHttp(response, answer)
      })
    })
    await once(server.listen(wanted, '127.0.0.1'), 'listening')
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : 0
    return [
      port,
      async () => {
        const closed = once(server.close(), 'close')
        server.closeAllConnections()
        await closed
      }
    ]
  }

  const [port, close] = protocol === 'grpc' ? await listenGrpc() : await listenHttp()
  const collector: Collector = {
    url: `http://127.0.0.1:${port}`,
    calls: 0,
    logCalls: 0,
    metricCalls: 0,
    headers: [],
    spans,
    logs,
    points,
    requests,
    async span(matches) {
      for (;;) {
        const found = spans.find(matches)
        if (found) return found
        await once(arrivals, 'data')
      }
    },
    async called(calls, signal = 'traces') {
      while (collector[CALLS[signal]] < calls) await once(arrivals, 'call')
    },
    close
  }
  return collector
}

function spansIn({ resource_spans }: ExportRequest): ReceivedSpan[] {
  return resource_spans.flatMap(({ resource, scope_spans }) =>
    scope_spans.flatMap(({ scope, spans }) =>
      spans.map((span) => received(span, scope?.name ?? '', record(resource?.attributes)))
    )
  )
}

function logsIn({ resource_logs }: LogsRequest): ReceivedLog[] {
  return resource_logs.flatMap(({ resource, scope_logs }) =>
    scope_logs.flatMap(({ scope, log_records }) =>
      log_records.map((log) => receivedLog(log, scope, record(resource?.attributes)))
    )
  )
}

function pointsIn({ resource_metrics }: MetricsRequest): ReceivedPoint[] {
  return resource_metrics.flatMap(({ resource, scope_metrics }) =>
    scope_metrics.flatMap(({ scope, metrics }) =>
      metrics.flatMap((metric) =>
        metric[metric.data].data_points.map((point) =>
          receivedPoint(metric, point, scope, record(resource?.attributes))
        )
      )
    )
  )
}

function refuseHttp(
  response: ServerResponse,
  answer: { code: number } | { status: number; retryAfterSeconds?: number }
) {
  if (!('status' in answer)) throw new Error('a gRPC status over HTTP')
  if (answer.retryAfterSeconds !== undefined) response.setHeader('retry-after', answer.retryAfterSeconds)
  response.writeHead(answer.status).end('refused by the script')
}
