import type { IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import { OBSERVATION, type RequestObservation } from '../request-observation.ts'

/**
 * Notes how much body comes in, and when the connection is upgraded. Listening for `data` would start the stream, and
 * nothing reports an upgrade, so the method that each goes through is wrapped, for the requests that have one.
 */
export function watchRequest(raw: IncomingMessage, observation: RequestObservation): void {
  const { httpVersionMajor } = raw
  const { headers } = observation
  // HTTP/2 needs no header to have a body.
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined || httpVersionMajor > 1) {
    const isWrapped = Object.hasOwn(raw, 'push') && raw.push !== wrappers.push
    Object.assign(raw, isWrapped ? { push: counting(raw.push) } : wrappers)
  }
  if (headers.upgrade !== undefined && httpVersionMajor === 1) watchUpgrade(raw, observation)
}

const wrappers = {
  push(this: IncomingMessage, ...args: unknown[]): unknown {
    count(this, args[0])
    return Reflect.apply(Object.getPrototypeOf(this).push, this, args)
  }
}

/** Of a request whose method somebody has wrapped before. */
function counting(push: IncomingMessage['push']): (this: IncomingMessage, ...args: unknown[]) => unknown {
  return function (...args) {
    count(this, args[0])
    return Reflect.apply(push, this, args)
  }
}

function count(raw: IncomingMessage, chunk: unknown): void {
  const observation = raw[OBSERVATION]
  if (observation && chunk instanceof Uint8Array) observation.requestBytes += chunk.byteLength
}

// The 101 is written to the socket itself, past the response.
function watchUpgrade({ socket }: IncomingMessage, observation: RequestObservation): void {
  const { write } = socket
  const restore = Object.hasOwn(socket, 'write')
    ? () => void Object.assign(socket, { write })
    : () => void Reflect.deleteProperty(socket, 'write')
  Object.assign(socket, {
    write(...args: unknown[]): unknown {
      restore()
      observation.upgradedAt ??= performance.now()
      return Reflect.apply(socket.write, socket, args)
    }
  })
}
