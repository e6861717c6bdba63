import type { ServerResponse } from 'node:http'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { Registry } from '@prometheus-io/client'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { acceptsGzip, CONTENT_TYPES, type Family, type Format, negotiate, render } from './exposition.ts'

const compress = promisify(gzip)
const COLLECT_TIMEOUT_MS = 700
const READ_TIMEOUT_MS = 10_000
const MAX_UNREAD = 4

/**
 * Makes the function that reads all metrics of a registry. A metric that throws, rejects or hangs is left out and
 * reported; while it hangs it is not asked again.
 */
export function createCollector(registry: Registry, failed: (metric: string, error: unknown) => void) {
  const pending = new Set<string>()

  async function read(name: string, expired: Promise<never>): Promise<Family[]> {
    if (pending.has(name)) return []
    try {
      const metric = registry.getSingleMetric(name)
      if (!metric) return []
      pending.add(name)
      const family = metric.get().finally(() => pending.delete(name))
      return [await Promise.race([family, expired])]
    } catch (error) {
      failed(name, error)
      return []
    }
  }

  return async (): Promise<Family[]> => {
    const { promise: expired, reject } = Promise.withResolvers<never>()
    expired.catch(() => undefined)
    const timer = setTimeout(() => reject(new Error(`not collected in ${COLLECT_TIMEOUT_MS} ms`)), COLLECT_TIMEOUT_MS)
    try {
      const families = await Promise.all(registry.getMetricsAsArray().map(({ name }) => read(name, expired)))
      return families.flat()
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Serves what `collect` gives: one collection for all who ask at the same time, in the form that each asks for. */
export function serveMetrics(app: FastifyInstance, path: string, collect: () => Promise<readonly Family[]>): void {
  const bodies = new Map<string, Promise<Buffer>>()
  const keep = createShelf()
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
      config: { observability: { log: 'failures', trace: false, shed: false } }
    },
    async (request: FastifyRequest, reply: FastifyReply) => {
      const format = negotiate(request.headers.accept)
      const zipped = acceptsGzip(request.headers['accept-encoding'])
      const answer = await body(format, zipped)
      keep(answer, reply.raw)
      reply.header('content-type', CONTENT_TYPES[format])
      reply.header('vary', 'accept, accept-encoding')
      reply.header('cache-control', 'no-store')
      if (zipped) reply.header('content-encoding', 'gzip')
      return reply.send(answer)
    }
  )
}

/**
 * Bounds what readers hold: an answer is taken away from those who have not read it in time, and the oldest from those
 * who still read it when there are too many.
 */
function createShelf(): (body: Buffer, response: ServerResponse) => void {
  const unread = new Map<Buffer, Set<ServerResponse>>()

  function drop(body: Buffer): void {
    for (const response of unread.get(body) ?? []) response.destroy()
    unread.delete(body)
  }

  return (body, response) => {
    // Who has left while the answer was made closes no second time.
    if (response.destroyed) return
    const readers = unread.get(body) ?? new Set()
    unread.set(body, readers.add(response))
    const timer = setTimeout(() => response.destroy(), READ_TIMEOUT_MS).unref()
    response.once('close', () => {
      clearTimeout(timer)
      readers.delete(response)
      if (readers.size === 0) unread.delete(body)
    })
    const [oldest] = unread.keys()
    if (unread.size > MAX_UNREAD && oldest) drop(oldest)
  }
}
