import type { KeptValue } from '@fastify-observability/observation'
import type { RequestObservation } from '@fastify-observability/observation/internal'
import type { Attributes, AttributeValue } from '@opentelemetry/api'
import type { FastifyRequest } from 'fastify'
import { redactor } from '../span.ts'

const names = new Map<string, Map<string, string>>()

/** Of the route: what a caller sends is no name. */
export function nameOf({ method: known, route }: RequestObservation): string {
  const method = known === '_OTHER' ? 'HTTP' : known
  if (route === 'unmatched') return method
  const earlier = names.get(route)?.get(method)
  if (earlier !== undefined) return earlier
  const name = `${method} ${route}`
  names.set(route, (names.get(route) ?? new Map<string, string>()).set(method, name))
  return name
}

interface Connection {
  hostname: string | undefined
  port: number | undefined
  scheme: string | undefined
}

const NOWHERE: Connection = { hostname: undefined, port: undefined, scheme: undefined }

let lastHost: string | undefined
let lastScheme: string | undefined
let lastConnection = NOWHERE

// Fastify takes the header apart at each reading, and most requests name the same host.
function connectionOf(request: FastifyRequest): Connection {
  try {
    const { host, protocol: scheme } = request
    if (host === lastHost && scheme === lastScheme) return lastConnection
    const { hostname, port } = request
    lastHost = host
    lastScheme = scheme
    lastConnection = { hostname: hostname || undefined, port: port ?? undefined, scheme }
    return lastConnection
  } catch {
    // All three ask `trustProxy`, which may be a function of the user's and throw.
    return NOWHERE
  }
}

/** What a span says of its request or job, and no added field can. */
export const OWN_ATTRIBUTES: readonly string[] = [
  'http.request.method',
  'http.request.method_original',
  'http.route',
  'http.response.status_code',
  'url.scheme',
  'network.protocol.version',
  'server.address',
  'server.port',
  'user_agent.original',
  'client.address',
  'network.peer.address',
  'url.path',
  'url.query',
  'network.peer.port',
  'request.id',
  'correlation.id',
  'error.type',
  'job.name',
  'job.attempt'
]

// One literal, and what there is not is `undefined`: adding one attribute after another takes several times as long. What
// requests to a route share comes first, which is encoded once for many.
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
export function attributesOf(observation: RequestObservation): Attributes {
  const { request, raw, url, headers, method, route, path, requestId, correlationId } = observation
  const { httpVersion, socket } = raw
  const { hostname, port, scheme } = request ? connectionOf(request) : NOWHERE
  const query = url.indexOf('?')
  return {
    'http.request.method': method,
    'http.request.method_original': method === '_OTHER' ? raw.method : undefined,
    'http.route': route === 'unmatched' ? undefined : route,
    'http.response.status_code': undefined,
    'url.scheme': scheme ?? ('encrypted' in socket && socket.encrypted === true ? 'https' : 'http'),
    'network.protocol.version': httpVersion === '2.0' ? '2' : httpVersion,
    'server.address': hostname,
    'server.port': port,
    'user_agent.original': headers['user-agent'],
    'client.address': observation.clientAddress,
    'network.peer.address': socket.remoteAddress,
    'url.path': path,
    // The rules know parameters by the question mark before them.
    'url.query': query === -1 || query === url.length - 1 ? undefined : redactor.text(url.slice(query)).slice(1),
    'network.peer.port': socket.remotePort,
    'request.id': requestId,
    'correlation.id': correlationId
  }
}

/** An added field as an attribute, whose lists can be written to. */
export function attributeOf(value: KeptValue): AttributeValue {
  return value !== null && typeof value === 'object' ? [...value] : value
}
