import type { ServerResponse } from 'node:http'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { clearTimeout, setTimeout } from '@fastify-observability/observation/internal'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CONTENT_TYPES, type Family, type Format, render } from './format.ts'
import { acceptsGzip, negotiate } from './negotiation.ts'

const compress = promisify(gzip)
const READ_TIMEOUT_MS = 10_000
const MAX_UNREAD = 4

/** Serves the collected metrics: one collection for all requests at a time, in the format that each accepts. */
export function serveMetrics(app: FastifyInstance, path: string, collect: () => Promise<readonly Family[]>): void {
  const bodies = new Map<string, Promise<Buffer>>()
  const limitUnread = createUnreadLimit()
  let collecting: Promise<readonly Family[]> | undefined

  function families(): Promise<readonly Family[]> {
    collecting ??= collect().finally(() => {
      collecting = undefined
    })
    return collecting
  }

  function body(format: Format, zipped: boolean): Promise<Buffer> {
    const key = `${format} ${zipped}`
    const known = bodies.get(key)
    if (known) return known
    const made = make(format, zipped).finally(() => bodies.delete(key))
    bodies.set(key, made)
    return made
  }

  async function make(format: Format, zipped: boolean): Promise<Buffer> {
    const text = Buffer.from(render(await families(), format))
    return zipped ? compress(text) : text
  }

  app.get(
    path,
    {
      schema: { hide: true },
      exposeHeadRoute: true,
      config: { observability: { log: 'failures', trace: false, shed: false, operational: true } }
    },
    async (request: FastifyRequest, reply: FastifyReply) => {
      const format = negotiate(request.headers.accept)
      const zipped = acceptsGzip(request.headers['accept-encoding'])
      const payload = await body(format, zipped)
      limitUnread(payload, reply.raw)
      reply.header('content-type', CONTENT_TYPES[format])
      reply.header('vary', 'accept, accept-encoding')
      reply.header('cache-control', 'no-store')
      if (zipped) reply.header('content-encoding', 'gzip')
      return reply.send(payload)
    }
  )
}

/**
 * Bounds the memory that responses hold: one that is not read in time is aborted, and so are those of the oldest payload
 * when there are too many payloads.
 */
function createUnreadLimit(): (payload: Buffer, response: ServerResponse) => void {
  const unread = new Map<Buffer, Set<ServerResponse>>()

  function abort(payload: Buffer): void {
    for (const response of unread.get(payload) ?? []) response.destroy()
    unread.delete(payload)
  }

  return (payload, response) => {
    // A response that has closed while its payload was made emits no second `close`.
    if (response.destroyed) return
    const readers = unread.get(payload) ?? new Set()
    unread.set(payload, readers.add(response))
    const timer = setTimeout(() => response.destroy(), READ_TIMEOUT_MS).unref()
    response.once('close', () => {
      clearTimeout(timer)
      readers.delete(response)
      if (readers.size === 0) unread.delete(payload)
    })
    const [oldest] = unread.keys()
    if (unread.size > MAX_UNREAD && oldest) abort(oldest)
  }
}
