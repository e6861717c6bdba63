import { Buffer } from 'node:buffer'
import type { ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import { OBSERVATION, type RequestObservation, type ResponseMethods } from '../request-observation.ts'
import { isRecord } from '../values/record.ts'

/**
 * Reports when the headers and how much body are written, and when the response has closed. Node has no event for the
 * first two, so three methods are wrapped on each response: by the same functions, which keeps responses alike to the engine.
 */
export function watchResponse(response: ServerResponse, observation: RequestObservation): void {
  // Apps that share a server watch each response once for each, and the methods that it has then are these.
  const earlier = response[OBSERVATION]
  observation.methods = earlier ? earlier.methods : ownMethods(response)
  response[OBSERVATION] = observation
  wrap(response)
  // The one end of success, error, stream, hijack, 404 and abort alike; onResponse misses aborts.
  // Before the listeners of others, because an instrumentation may end its server span in one of those.
  response.prependListener('close', closed)
}

/** What an agent or another plugin has wrapped on this response before: it is called, not skipped. */
function ownMethods(response: ServerResponse): ResponseMethods | undefined {
  const hasHead = Object.hasOwn(response, 'writeHead')
  const hasWrite = Object.hasOwn(response, 'write')
  const hasEnd = Object.hasOwn(response, 'end')
  if (!hasHead && !hasWrite && !hasEnd) return undefined
  const { writeHead, write, end } = response
  return { ...(hasHead && { writeHead }), ...(hasWrite && { write }), ...(hasEnd && { end }) }
}

// One by one: Object.assign takes several times as long.
function wrap(response: Record<'writeHead' | 'write' | 'end', unknown>): void {
  response.writeHead = writeHead
  response.write = write
  response.end = end
}

function closed(this: ServerResponse): void {
  this[OBSERVATION]?.close()
}

function writeHead(this: ServerResponse, ...args: unknown[]): unknown {
  const observation = this[OBSERVATION]
  if (observation && observation.headersAt === undefined) {
    observation.headersAt = performance.now()
    observation.beforeHeaders(args.at(-1))
    if (observation.writtenInstead) args.push(overridden(args.pop(), observation.writtenInstead))
  }
  return Reflect.apply(observation?.methods?.writeHead ?? Object.getPrototypeOf(this).writeHead, this, args)
}

/** The headers given to writeHead, an object or a flat list, with other values for some. */
function overridden(written: unknown, values: ReadonlyMap<string, string>): unknown {
  const value = (name: unknown, given: unknown): unknown => values.get(String(name).toLowerCase()) ?? given
  if (!isRecord(written)) return written
  if (Array.isArray(written))
    return written.map((item, index) => (index % 2 === 1 ? value(written[index - 1], item) : item))
  return Object.fromEntries(Object.entries(written).map(([name, given]) => [name, value(name, given)]))
}

function write(this: ServerResponse, ...args: unknown[]): unknown {
  count(this, args[0], args[1])
  return Reflect.apply(this[OBSERVATION]?.methods?.write ?? Object.getPrototypeOf(this).write, this, args)
}

function end(this: ServerResponse, ...args: unknown[]): unknown {
  count(this, args[0], args[1])
  const observation = this[OBSERVATION]
  if (observation?.held) return this
  // Some responses write the last chunk through their own write().
  const isFirst = observation?.ending === false
  if (observation) observation.ending = true
  if (isFirst && observation.isHoldable) return holdBack(this, observation, args)
  return Reflect.apply(observation?.methods?.end ?? Object.getPrototypeOf(this).end, this, args)
}

// Apart from end(), where a closure would make the engine keep the arguments of every response.
function holdBack(response: ServerResponse, observation: RequestObservation, args: unknown[]): ServerResponse {
  const { end = Object.getPrototypeOf(response).end } = observation.methods ?? {}
  observation.hold(() => Reflect.apply(end, response, args))
  return response
}

function count(response: ServerResponse, chunk: unknown, encoding: unknown): void {
  const observation = response[OBSERVATION]
  if (!observation || observation.ending || !hasBody(response)) return
  if (typeof chunk === 'string') observation.responseBytes += Buffer.byteLength(chunk, encodingOf(encoding))
  else if (chunk instanceof Uint8Array) observation.responseBytes += chunk.byteLength
}

function encodingOf(encoding: unknown): BufferEncoding {
  return typeof encoding === 'string' && Buffer.isEncoding(encoding) ? encoding : 'utf8'
}

// https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1
function hasBody({ req, statusCode }: ServerResponse): boolean {
  return req.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304
}
