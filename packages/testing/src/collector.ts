import { EventEmitter, once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { loadPackageDefinition, Server, ServerCredentials } from '@grpc/grpc-js'
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

export interface Collector {
  url: string
  /** Everything received so far. */
  spans: ReceivedSpan[]
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

const PROTO = fileURLToPath(new URL('../otlp.proto', import.meta.url))
const SERVICE = 'opentelemetry.proto.collector.trace.v1.TraceService'
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

/** A gRPC server that takes OTLP traces and decodes their bytes. */
export async function startCollector(): Promise<Collector> {
  const definition = loadSync(PROTO, { keepCase: true, longs: String, oneofs: true, defaults: true })
  loadPackageDefinition(definition)
  const service = definition[SERVICE]
  if (!service || 'format' in service) throw new Error(`${SERVICE} is not in ${PROTO}`)

  const spans: ReceivedSpan[] = []
  const arrivals = new EventEmitter()
  const server = new Server()
  server.addService(service, {
    Export({ request }: { request: ExportRequest }, done: (error: null, response: object) => void) {
      for (const { resource, scope_spans } of request.resource_spans) {
        for (const { scope, spans: batch } of scope_spans) {
          spans.push(...batch.map((span) => received(span, scope?.name ?? '', record(resource?.attributes))))
        }
      }
      arrivals.emit('spans')
      done(null, {})
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
    async span(matches) {
      for (;;) {
        const found = spans.find(matches)
        if (found) return found
        await once(arrivals, 'spans')
      }
    },
    close: () => new Promise((resolve, reject) => server.tryShutdown((error) => (error ? reject(error) : resolve())))
  }
}
