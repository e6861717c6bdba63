import type { Client, ClientUnaryCall, Metadata, ServiceError } from '@grpc/grpc-js'
import type { Answer, Connection } from './connection.ts'
import type { Destination, Signal } from './destination.ts'
import { grpcFailure, rejectedIn } from './failure.ts'

const METHODS: Record<Signal, string> = {
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export'
}
const CANCELLED = 1
const GZIP = 2
// A collector that restarts is found again soon. gRPC's own limit is two minutes.
const MAX_RECONNECT_BACKOFF_MS = 5_000

/** The client is a third of what tracing loads, and nothing is to be sent while the application starts. */
export function connectGrpc(destination: Destination): Connection {
  const calls = new Set<ClientUnaryCall>()
  let opening: Promise<{ client: Client; metadata: Metadata }> | undefined
  let isClosed = false

  async function create(): Promise<{ client: Client; metadata: Metadata }> {
    const { Client, Metadata, credentials } = await import('@grpc/grpc-js')
    const { url, tls, headers, compression } = destination
    const metadata = new Metadata()
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value)
    // gRPC throws for one without the other.
    const own = tls.key && tls.cert ? [tls.key, tls.cert] : []
    const secure = () => credentials.createSsl(tls.ca ?? null, ...own)
    const client = new Client(addressOf(url), url.protocol === 'https:' ? secure() : credentials.createInsecure(), {
      // Nobody else's calls share its connection, which close() ends.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_retries': 0,
      'grpc.max_reconnect_backoff_ms': MAX_RECONNECT_BACKOFF_MS,
      'grpc.primary_user_agent': 'fastify-observability',
      ...(compression === 'gzip' && { 'grpc.default_compression_algorithm': GZIP })
    })
    return { client, metadata }
  }
  function open() {
    opening ??= create()
    return opening
  }

  return {
    open,
    async send(request, timeoutMs) {
      const { client, metadata } = await open()
      if (isClosed) return grpcFailure(CANCELLED, '', undefined)
      return new Promise<Answer>((resolve) => {
        const call: ClientUnaryCall = client.makeUnaryRequest<Buffer, Buffer>(
          METHODS[destination.signal],
          asItIs,
          asItIs,
          request,
          metadata,
          { deadline: Date.now() + timeoutMs },
          (error, response) => {
            calls.delete(call)
            resolve(error ? failureOf(error) : { rejected: response ? rejectedIn(response) : 0 })
          }
        )
        calls.add(call)
      })
    },
    close() {
      isClosed = true
      for (const call of calls) call.cancel()
      opening?.then(
        ({ client }) => client.close(),
        () => undefined
      )
    }
  }
}

function asItIs(bytes: Buffer): Buffer {
  return bytes
}

function addressOf({ protocol, host, port }: URL): string {
  if (port) return host
  return `${host}:${protocol === 'https:' ? 443 : 80}`
}

function failureOf({ code, details, metadata }: ServiceError): Answer {
  const [status] = metadata.get('grpc-status-details-bin')
  return grpcFailure(code, details, Buffer.isBuffer(status) ? status : undefined)
}
