import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { currentObservation } from '@fastify-observability/observation'
import type { createFactory } from './business.ts'

// An import would read every export, and one of them loads undici: 10 ms of the start for nothing.
const { ClientRequest, IncomingMessage } = process.getBuiltinModule('node:http')

interface Call {
  startedAt: number
  method: string
  host: string
  statusCode: number | undefined
  spanContext: NonNullable<ReturnType<typeof currentObservation>>['spanContext']
}

const OTHER = '_OTHER'
const METHODS = new Set(['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE'])

/**
 * Measures the process's calls by `fetch` and by `node:http`, until the returned function is called. Hosts that are not
 * listed are one series.
 * @see https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration
 */
export function observeOutgoing({ histogram }: ReturnType<typeof createFactory>, hosts: readonly string[]): () => void {
  const known = new Set(hosts.map((host) => host.toLowerCase()))
  const duration = histogram({
    name: 'http_client_request_duration_seconds',
    help: 'Duration of HTTP client requests.',
    labelNames: ['http_request_method', 'server_address', 'http_response_status_code', 'error_type']
  }).series
  const calls = new WeakMap<object, Call>()

  function begin(request: object, method: unknown, address: unknown): void {
    const host = typeof address === 'string' ? address.toLowerCase() : ''
    calls.set(request, {
      startedAt: performance.now(),
      method: typeof method === 'string' && METHODS.has(method) ? method : OTHER,
      host: known.has(host) ? host : OTHER,
      statusCode: undefined,
      spanContext: currentObservation()?.spanContext
    })
  }

  function end(request: object, error?: unknown): void {
    const call = calls.get(request)
    if (!call) return
    calls.delete(request)
    const { startedAt, method, host, statusCode, spanContext } = call
    const errorType = error === undefined ? (statusCode ?? 0) >= 400 && String(statusCode) : nameOf(error)
    duration
      .get([method, host, statusCode === undefined ? '' : String(statusCode), errorType || ''])
      .observe((performance.now() - startedAt) / 1000, spanContext)
  }

  function answered(request: object, statusCode: unknown): void {
    const call = calls.get(request)
    if (call && typeof statusCode === 'number') call.statusCode = statusCode
  }

  const listeners: Record<string, (message: unknown) => void> = {
    'undici:request:create': withRequest((request) => {
      const origin = 'origin' in request ? String(request.origin) : ''
      begin(request, 'method' in request && request.method, URL.parse(origin)?.hostname)
    }),
    'undici:request:headers': withRequest((request, { response }) => {
      if (isObject(response) && 'statusCode' in response) answered(request, response.statusCode)
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

function withRequest(listen: (request: object, message: Record<string, unknown>) => void): (message: unknown) => void {
  return (message) => {
    if (!isObject(message)) return
    const { request } = message
    if (isObject(request)) listen(request, message)
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return OTHER
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
