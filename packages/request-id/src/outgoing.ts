import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { isRecord } from '@fastify-observability/observation/internal'

// An import would read every export, and one of them loads undici: 10 ms of the start for nothing.
const { ClientRequest } = process.getBuiltinModule('node:http')

/** The headers of a call that is about to go out; names are in lower case. */
export interface OutgoingHeaders {
  get(name: string): unknown
  set(name: string, value: string): void
}

/** Called with the host and the headers of each call. */
export type Inject = (host: string, headers: OutgoingHeaders) => void

interface UndiciRequest {
  origin: string | URL
  headers: string | string[]
  addHeader(name: string, value: string): void
}

/**
 * Listens for calls over `node:http` and undici, `fetch` included, in the context that makes them.
 * @see https://nodejs.org/api/diagnostics_channel.html#built-in-channels
 * @see https://undici.nodejs.org/#/docs/api/DiagnosticsChannel
 * @returns a function that stops listening
 */
export function onOutgoing(inject: Inject): () => void {
  const listeners: [string, (message: unknown) => void][] = [
    ['http.client.request.created', (message) => injectIntoHttp(message, inject)],
    ['undici:request:create', (message) => injectIntoUndici(message, inject)]
  ]
  for (const [channel, listener] of listeners) subscribe(channel, listener)
  return () => {
    for (const [channel, listener] of listeners) unsubscribe(channel, listener)
  }
}

function injectIntoHttp(message: unknown, inject: Inject): void {
  const request = requestOf(message)
  if (!(request instanceof ClientRequest)) return
  const headers = request.headersSent ? renderedHeaders(request) : pendingHeaders(request)
  if (headers) inject(request.host.toLowerCase(), headers)
}

function pendingHeaders(request: InstanceType<typeof ClientRequest>): OutgoingHeaders {
  return {
    get: (name) => request.getHeader(name),
    set: (name, value) => void request.setHeader(name, value)
  }
}

/** Node renders headers given as a list at once, and sends the text later. */
function renderedHeaders(request: object): OutgoingHeaders | undefined {
  if (!isRecord(request) || typeof request._header !== 'string' || request._headerSent === true) return undefined
  return linesOf(request, '_header')
}

function injectIntoUndici(message: unknown, inject: Inject): void {
  const request = requestOf(message)
  if (!isUndiciRequest(request)) return
  const host = URL.parse(String(request.origin))?.hostname
  if (host !== undefined) inject(host, undiciHeaders(request))
}

// Undici keeps raw headers: one text in its version 5, a flat list of names and values since 6.
function undiciHeaders(request: UndiciRequest): OutgoingHeaders {
  const { headers } = request
  if (typeof headers === 'string') return linesOf(request, 'headers')
  const indexOf = (name: string): number =>
    headers.findIndex((header, index) => index % 2 === 0 && header.toLowerCase() === name)
  return {
    get(name) {
      const index = indexOf(name)
      return index === -1 ? undefined : headers[index + 1]
    },
    set(name, value) {
      const index = indexOf(name)
      if (index === -1) request.addHeader(name, value)
      else headers[index + 1] = value
    }
  }
}

/** Headers in the form in which they are sent: the lines in a property, up to an empty one. */
function linesOf(owner: object, key: string): OutgoingHeaders {
  const isOf = (line: string, name: string): boolean => line.toLowerCase().startsWith(`${name}:`)
  const lines = (): string[] => String(Reflect.get(owner, key)).split('\r\n')
  return {
    get(name) {
      const line = lines().find((line) => isOf(line, name))
      return line?.slice(name.length + 1).trim()
    },
    set(name, value) {
      const others = lines().filter((line) => !isOf(line, name))
      others.splice(others.indexOf(''), 0, `${name}: ${value}`)
      Reflect.set(owner, key, others.join('\r\n'))
    }
  }
}

function requestOf(message: unknown): unknown {
  return isRecord(message) ? message.request : undefined
}

function isUndiciRequest(request: unknown): request is UndiciRequest {
  return isRecord(request) && 'addHeader' in request && 'origin' in request
}
