import type { RequestObservation } from '@fastify-observability/observation/internal'
import type { Attributes } from '@opentelemetry/api'
import type { FastifyRequest } from 'fastify'
import { redactor } from '../span.ts'

const names = new Map<string, Map<string, string>>()

/** Of the route: what a caller sends is no name. */
export function nameOf({ method, route }: RequestObservation): string {
  if (route === 'unmatched') return method
  const known = names.get(route)?.get(method)
  if (known !== undefined) return known
  const name = `${method} ${route}`
  names.set(route, (names.get(route) ?? new Map<string, string>()).set(method, name))
  return name
}

interface Authority {
  hostname: string | undefined
  port: number | undefined
}

const NOWHERE: Authority = { hostname: undefined, port: undefined }

let lastHost: string | undefined
let lastAuthority = NOWHERE

// Fastify takes the header apart at each reading, and most requests name the same host.
function authorityOf(request: FastifyRequest): Authority {
  const { host } = request
  if (host === lastHost) return lastAuthority
  const { hostname, port } = request
  lastHost = host
  lastAuthority = { hostname: hostname || undefined, port: port ?? undefined }
  return lastAuthority
}

// One literal, and what there is not is `undefined`: adding one attribute after another takes several times as long. What
// requests to a route share comes first, which is encoded once for many.
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
export function attributesOf(observation: RequestObservation): Attributes {
  const { request, raw, headers, route, path, requestId, correlationId } = observation
  const { url = '' } = raw
  const { hostname, port } = request ? authorityOf(request) : NOWHERE
  return {
    'http.request.method': observation.method,
    'http.route': route === 'unmatched' ? undefined : route,
    'http.response.status_code': undefined,
    'url.scheme': request?.protocol,
    'network.protocol.version': raw.httpVersion,
    'server.address': hostname,
    'server.port': port,
    'user_agent.original': headers['user-agent'],
    'client.address': observation.clientAddress,
    'url.path': path,
    // The rules know parameters by the question mark before them.
    'url.query': url.length > path.length + 1 ? redactor.text(url.slice(path.length)).slice(1) : undefined,
    'request.id': requestId,
    'correlation.id': correlationId
  }
}
