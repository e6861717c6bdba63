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
    Object.assign(raw, wrappers)
  }
  if (headers.upgrade !== undefined && httpVersionMajor === 1) watchUpgrade(raw, observation)
}

const wrappers = {
  push(this: IncomingMessage, ...args: unknown[]): unknown {
    const [chunk] = args
    const observation = this[OBSERVATION]
    if (observation && chunk instanceof Uint8Array) observation.requestBytes += chunk.byteLength
    return Reflect.apply(Object.getPrototypeOf(this).push, this, args)
  }
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
