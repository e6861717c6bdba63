import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { currentObservation, type Observation } from '@fastify-observability/observation'
import { elapsedMs, errorName, isBackground, isRecord, knownMethod } from '@fastify-observability/observation/internal'
import type { Factory } from '../instruments/factory.ts'

// An import would read every export, and one of them loads undici: 10 ms of the start for nothing.
const { ClientRequest, IncomingMessage } = process.getBuiltinModule('node:http')

interface Call {
  startedAt: number
  method: string
  host: string
  statusCode: number | undefined
  spanContext: Observation['spanContext']
}

const OTHER = '_OTHER'

/**
 * Measures the process's calls by `fetch` and by `node:http`, until the returned function is called. Hosts that are not
 * listed are one series; deliveries of the suite's own are not measured.
 * @see https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration
 */
export function observeOutgoing({ histogram }: Factory, hosts: readonly string[]): () => void {
  const known = new Set(hosts.map((host) => host.toLowerCase()))
  const duration = histogram({
    name: 'http_client_request_duration_seconds',
    help: 'Duration of HTTP client requests.',
    labelNames: ['http_request_method', 'server_address', 'http_response_status_code', 'error_type']
  }).series
  const calls = new WeakMap<object, Call>()

  function begin(request: object, method: unknown, address: unknown): void {
    if (isBackground()) return
    const host = typeof address === 'string' ? address.toLowerCase() : ''
    calls.set(request, {
      startedAt: performance.now(),
      method: knownMethod(method),
      host: known.has(host) ? host : OTHER,
      statusCode: undefined,
      spanContext: currentObservation()?.spanContext
    })
  }

  function answered(request: object, statusCode: unknown): void {
    const call = calls.get(request)
    if (call && typeof statusCode === 'number') call.statusCode = statusCode
  }

  function end(request: object, error?: unknown): void {
    const call = calls.get(request)
    if (!call) return
    calls.delete(request)
    const { startedAt, method, host, statusCode, spanContext } = call
    const series = duration.get({
      http_request_method: method,
      server_address: host,
      http_response_status_code: statusCode === undefined ? '' : String(statusCode),
      error_type: errorType(statusCode, error)
    })
    series.observe(elapsedMs(startedAt) / 1000, spanContext)
  }

  const listeners: Record<string, (message: unknown) => void> = {
    'undici:request:create': withRequest((request) => {
      const origin = 'origin' in request ? String(request.origin) : ''
      begin(request, 'method' in request && request.method, URL.parse(origin)?.hostname)
    }),
    'undici:request:headers': withRequest((request, { response }) => {
      if (isRecord(response)) answered(request, response.statusCode)
    }),
    'undici:request:trailers': withRequest((request) => end(request)),
    'undici:request:error': withRequest((request, { error }) => end(request, error)),
    'http.client.request.start': withRequest((request) => {
      if (request instanceof ClientRequest) begin(request, request.method, request.host)
    }),
    'http.client.response.finish': withRequest((request, { response }) => {
      if (!(response instanceof IncomingMessage)) return
      answered(request, response.statusCode)
      response.once('close', () => end(request))
    }),
    'http.client.request.error': withRequest((request, { error }) => end(request, error))
  }
  for (const [channel, listener] of Object.entries(listeners)) subscribe(channel, listener)
  return () => {
    for (const [channel, listener] of Object.entries(listeners)) unsubscribe(channel, listener)
  }
}

function errorType(statusCode: number | undefined, error: unknown): string {
  if (error !== undefined) return errorName(error) || OTHER
  return statusCode !== undefined && statusCode >= 400 ? String(statusCode) : ''
}

function withRequest(listen: (request: object, message: Record<string, unknown>) => void): (message: unknown) => void {
  return (message) => {
    if (isRecord(message) && isRecord(message.request)) listen(message.request, message)
  }
}
