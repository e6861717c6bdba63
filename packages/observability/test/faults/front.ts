import { once } from 'node:events'
import net from 'node:net'
import tls from 'node:tls'
import type { Certificate } from '@fastify-observability/testing/certificate'

/**
 * What happens to connections: they get through; nobody answers; they are reset as soon as something comes; they are answered
 * with what is no protocol; they are refused, like those that are open.
 */
export type Passage = 'open' | 'silent' | 'reset' | 'garbage' | 'refused'

/** A way to a server that can be broken. */
export interface Front {
  origin: string
  /** Connections and pieces of data that the broken way has met. */
  strikes: number
  /** Connections that are open. */
  readonly clients: number
  /** Breaks or mends the way. Connections that are open stay, unless they are refused. */
  set(passage: Passage): Promise<void>
  /** Ends the connections that are open; half way of an answer, if one is on its way. */
  cut(): void
  /** Writes something to all clients. */
  inject(bytes: Uint8Array): void
  /** Of a front with TLS: shows another certificate. Connections that are open end. */
  present(certificate: Certificate): void
  close(): Promise<void>
}

const ALPN = ['h2', 'http/1.1']

export async function openFront(target: string, certificate?: Certificate): Promise<Front> {
  const server = certificate
    ? tls.createServer({ key: certificate.key, cert: certificate.cert, ALPNProtocols: ALPN })
    : net.createServer()
  const clients = new Set<net.Socket>()
  let passage: Passage = 'open'

  function admit(client: net.Socket): void {
    clients.add(client)
    const behind = net.connect(Number(new URL(target).port), '127.0.0.1')
    for (const socket of [client, behind]) socket.on('error', () => undefined)
    client.on('close', () => {
      clients.delete(client)
      behind.destroy()
    })
    behind.on('close', () => client.destroy())
    client.on('data', (bytes) => {
      if (passage !== 'open') front.strikes++
      if (passage === 'open') behind.write(bytes)
      else if (passage === 'reset') client.resetAndDestroy()
      else if (passage === 'garbage') client.end('this is no answer\r\n\r\n')
    })
    behind.on('data', (bytes) => {
      if (passage === 'open') client.write(bytes)
    })
  }
  server.on(certificate ? 'secureConnection' : 'connection', admit)
  // A client that does not trust the certificate.
  server.on('tlsClientError', () => void front.strikes++)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0

  function cut(): void {
    for (const client of clients) client.destroy()
  }
  const front: Front = {
    // A certificate is for a name.
    origin: certificate ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    strikes: 0,
    get clients() {
      return clients.size
    },
    async set(wanted) {
      const was = passage
      passage = wanted
      if (wanted === 'refused') {
        front.strikes += clients.size
        server.close()
        cut()
      } else if (was === 'refused') await once(server.listen(port, '127.0.0.1'), 'listening')
      // Nothing of what was swallowed can be made up for.
      if (wanted === 'open') cut()
    },
    cut,
    inject(bytes) {
      front.strikes += clients.size
      for (const client of clients) client.write(bytes)
    },
    present(other) {
      if (server instanceof tls.Server) server.setSecureContext({ key: other.key, cert: other.cert })
      cut()
    },
    async close() {
      cut()
      if (!server.listening) return
      server.close()
      await once(server, 'close')
    }
  }
  return front
}
