import type { ServerResponse } from 'node:http'
import type { Observation } from './observation.ts'

/**
 * Notes when headers and how much body go out. Node has no event for either, so the three methods are wrapped on this
 * one response; `beforeHeaders` may still set headers.
 */
export function watchResponse(observation: Observation, beforeHeaders: (headers: unknown) => void): void {
  const { response } = observation
  const { writeHead, write, end } = response
  let ending = false

  Object.assign(response, {
    writeHead(...args: unknown[]): unknown {
      if (observation.headersAt === undefined) {
        observation.headersAt = performance.now()
        beforeHeaders(args.at(-1))
      }
      return Reflect.apply(writeHead, response, args)
    },
    write(...args: unknown[]): unknown {
      if (!ending) count(args)
      return Reflect.apply(write, response, args)
    },
    end(...args: unknown[]): unknown {
      // Some responses write the last chunk through their own write().
      if (!ending) count(args)
      ending = true
      return Reflect.apply(end, response, args)
    }
  })

  function count([chunk, encoding]: unknown[]): void {
    if (!hasBody(response)) return
    if (typeof chunk === 'string') observation.responseBytes += Buffer.byteLength(chunk, encodingOf(encoding))
    else if (chunk instanceof Uint8Array) observation.responseBytes += chunk.byteLength
  }
}

function encodingOf(encoding: unknown): BufferEncoding {
  return typeof encoding === 'string' && Buffer.isEncoding(encoding) ? encoding : 'utf8'
}

// https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1
function hasBody({ req, statusCode }: ServerResponse): boolean {
  return req.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304
}
