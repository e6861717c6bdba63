import { subscribe, unsubscribe } from 'node:diagnostics_channel'

// An import would read every export, and one of them loads undici: 10 ms of the start for nothing.
const { ClientRequest } = process.getBuiltinModule('node:http')

/** Is told the host of a call that is about to go out, and may set headers that the caller has not set. */
export type Carry = (host: string, set: (name: string, value: string) => void) => void

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
export function onOutgoing(carry: Carry): () => void {
  const listeners: [string, (message: unknown) => void][] = [
    ['http.client.request.created', (message) => overHttp(message, carry)],
    ['undici:request:create', (message) => overUndici(message, carry)]
  ]
  for (const [channel, listener] of listeners) subscribe(channel, listener)
  return () => {
    for (const [channel, listener] of listeners) unsubscribe(channel, listener)
  }
}

function overHttp(message: unknown, carry: Carry): void {
  const request = requestOf(message)
  // Headers given as a list are already written.
  if (!(request instanceof ClientRequest) || request.headersSent) return
  carry(request.host.toLowerCase(), (name, value) => {
    if (!request.hasHeader(name)) request.setHeader(name, value)
  })
}

function overUndici(message: unknown, carry: Carry): void {
  const request = requestOf(message)
  if (!isUndiciRequest(request)) return
  const host = URL.parse(String(request.origin))?.hostname
  if (host === undefined) return
  carry(host, (name, value) => {
    if (!isSet(request.headers, name)) request.addHeader(name, value)
  })
}

function requestOf(message: unknown): unknown {
  return typeof message === 'object' && message !== null && 'request' in message ? message.request : undefined
}

function isUndiciRequest(request: unknown): request is UndiciRequest {
  return typeof request === 'object' && request !== null && 'addHeader' in request && 'origin' in request
}

// Undici keeps raw headers: one text in its version 5, a flat list of names and values since 6.
function isSet(headers: string | string[], name: string): boolean {
  if (typeof headers === 'string') return `\n${headers.toLowerCase()}`.includes(`\n${name}:`)
  return headers.some((header, index) => index % 2 === 0 && header.toLowerCase() === name)
}
