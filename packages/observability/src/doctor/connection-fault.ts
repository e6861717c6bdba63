import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Probe } from '@fastify-observability/otlp/probe'

type Target = Pick<Probe, 'url' | 'tls'>

const PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 }

/** Why no connection to an endpoint comes about, as a code such as `ECONNREFUSED`; `undefined` where one does. */
export function connectionFault({ url, tls }: Target, timeoutMs: number): Promise<string | undefined> {
  const address = addressOf(url)
  if (url.protocol !== 'https:') return outcomeOf(connect(address), 'connect', timeoutMs)
  return outcomeOf(connectTls({ ...address, ...serverNameOf(address.host), ...tls }), 'secureConnect', timeoutMs)
}

/** Whether TLS is spoken there, with whatever certificate. */
export async function speaksTls({ url }: Target, timeoutMs: number): Promise<boolean> {
  const address = addressOf(url)
  const socket = connectTls({ ...address, ...serverNameOf(address.host), rejectUnauthorized: false })
  return (await outcomeOf(socket, 'secureConnect', timeoutMs)) === undefined
}

function outcomeOf(socket: Socket, event: 'connect' | 'secureConnect', timeoutMs: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const timer = setTimeout(resolve, Math.max(1, timeoutMs), 'ETIMEDOUT')
  socket.once(event, () => resolve(undefined))
  socket.on('error', (error) => resolve('code' in error ? String(error.code) : error.name))
  // Some servers end the connection without a word.
  socket.once('close', () => resolve('ECONNRESET'))
  return promise.finally(() => {
    clearTimeout(timer)
    socket.destroy()
  })
}

function addressOf({ protocol, hostname, port }: URL): { host: string; port: number } {
  // Of IPv6 in brackets.
  const host = hostname.replace(/^\[|\]$/g, '')
  return { host, port: Number(port) || (PORTS[protocol] ?? 80) }
}

// https://www.rfc-editor.org/rfc/rfc6066#section-3: no addresses.
function serverNameOf(host: string): { servername?: string } {
  return isIP(host) === 0 ? { servername: host } : {}
}
