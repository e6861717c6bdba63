import type { Socket } from 'node:net'
import {
  isRecord,
  type RequestObservation,
  registryOf,
  setImmediate
} from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import { NAME } from '../options.ts'

/** A request that was aborted, as the log names it. */
interface AbortedRequest {
  method: string
  route: string
  request_id: string | undefined
  duration_ms: number
}

export interface Connections {
  /** Answers from now on say `connection: close`. */
  drain(): void
  /** From now on a connection is closed when its request has ended. */
  closeAfterRequests(): void
  closeSilent(): void
  abortRequests(): void
  readonly aborted: readonly AbortedRequest[]
}

/** Follows the connections of an app's server and the requests on them. */
export function watchConnections(app: FastifyInstance): Connections {
  const inFlight = new Set<RequestObservation>()
  const sockets = new Set<Socket>()
  const aborted: AbortedRequest[] = []
  let draining = false
  let closing = false

  registryOf(app).observe({
    name: NAME,
    start: (request) => void inFlight.add(request),
    headers({ response }) {
      // Node then sends `connection: close`, and clients connect to another instance.
      if (draining) response.shouldKeepAlive = false
    },
    end(request) {
      inFlight.delete(request)
      if (closing) setImmediate(closeIdle)
    }
  })

  // With TLS the second is the one whose `bytesRead` counts what the client has sent.
  for (const event of ['connection', 'secureConnection']) {
    app.server.on(event, (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
  }

  // An answer whose headers went out earlier allows the client to keep its connection, and closing would wait for it.
  function closeIdle(): void {
    if ('closeIdleConnections' in app.server) app.server.closeIdleConnections()
  }

  return {
    aborted,
    drain() {
      draining = true
    },
    closeAfterRequests() {
      draining = closing = true
    },
    // Browsers and pools open connections in advance. Node calls those active, and closing would wait for them.
    closeSilent() {
      for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
    },
    abortRequests() {
      for (const request of inFlight) {
        const { method, route, requestId, startedAt, raw } = request
        aborted.push({ method, route, request_id: requestId, duration_ms: Math.round(performance.now() - startedAt) })
        // Ended now: sockets emit their `close` only after the server has closed.
        request.abort(Object.assign(new Error('aborted: the service is shutting down'), { code: 'SHUTDOWN' }))
        destroySession(raw)
        raw.destroy()
      }
      if ('closeAllConnections' in app.server) app.server.closeAllConnections()
      // Connections upgraded past Fastify, such as by socket.io: closing the server waits for them, and Node lists them no more.
      for (const socket of sockets) socket.destroy()
    }
  }
}

function destroySession(raw: object): void {
  // HTTP/2 has no closeAllConnections.
  const stream: unknown = Reflect.get(raw, 'stream')
  if (!isRecord(stream) || !isRecord(stream.session)) return
  const { session } = stream
  if (typeof session.destroy === 'function') session.destroy()
}
