import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import observability, { withSpan } from 'fastify-observability'
import { openCache } from './cache.ts'
import { type Order, openDatabase } from './database.ts'

export interface OrdersOptions {
  /** Where orders are stored. @default an embedded PostgreSQL */
  databaseUrl?: string
  /** Where orders are cached. @default no cache */
  redisUrl?: string
  /** Where orders are charged. @default 'http://127.0.0.1:8001' */
  paymentsUrl?: string
  /**
   * Ends the process in order on a signal, and serves on for so many milliseconds before it does.
   * @default signals are left alone
   */
  shutdownDelayMs?: number
}

interface NewOrder {
  customer: string
  amount: number
}

const PAYMENTS_MS = 2_000

const newOrder = {
  type: 'object',
  required: ['customer', 'amount'],
  properties: {
    customer: { type: 'string', minLength: 1, maxLength: 100 },
    amount: { type: 'integer', minimum: 1, maximum: 10_000_000 }
  }
}
const order = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    customer: { type: 'string' },
    amount: { type: 'integer' },
    createdAt: { type: 'string', format: 'date-time' }
  }
}
const byId = { type: 'object', properties: { id: { type: 'string', maxLength: 64 } } }
const delay = { type: 'object', properties: { ms: { type: 'integer', minimum: 0, maximum: 30_000, default: 1000 } } }
const signup = {
  type: 'object',
  required: ['role'],
  // The role becomes a label: the schema keeps it from growing without bound.
  properties: { role: { type: 'string', enum: ['buyer', 'seller', 'admin'] } }
}

function failure(statusCode: number, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { statusCode })
}

export async function buildApp(options: OrdersOptions = {}): Promise<FastifyInstance> {
  const { databaseUrl, redisUrl, paymentsUrl = 'http://127.0.0.1:8001', shutdownDelayMs } = options
  const app = Fastify()
  const database = await openDatabase(databaseUrl, (error) => {
    app.log.warn({ err: error }, 'a database connection broke')
  })
  app.addHook('onClose', () => database.close())
  const cache = redisUrl === undefined ? undefined : openCache(redisUrl, () => app.log)
  app.addHook('onReady', async () => cache?.connect())
  app.addHook('onClose', async () => cache?.close())

  await app.register(observability, {
    service: { name: process.env.OTEL_SERVICE_NAME || 'orders' },
    health: {
      checks: {
        database: database.check,
        // Orders are served without the cache too.
        ...(cache && { redis: { check: cache.check, critical: false } })
      },
      shutdown: shutdownDelayMs !== undefined && { delayMs: shutdownDelayMs }
    },
    profiling: Boolean(process.env.PYROSCOPE_SERVER_ADDRESS)
  })

  const signups = app.metrics.counter({
    name: 'app_user_signups_total',
    help: 'Users signed up.',
    labelNames: ['role']
  })
  const sessions = new Set<string>()
  app.metrics.gauge({
    name: 'app_active_sessions',
    help: 'Sessions in use.',
    collect() {
      this.set(sessions.size)
    }
  })
  const processing = app.metrics.histogram({
    name: 'app_order_processing_seconds',
    help: 'Time to process an order, failed ones included.',
    buckets: [0.1, 0.5, 1, 2, 5, 10]
  })

  function validate({ customer }: NewOrder): void {
    if (customer.trim() === '') throw failure(422, 'the customer is blank')
  }

  async function charge(orderId: string, amount: number): Promise<void> {
    let status: number
    try {
      const response = await fetch(new URL('/charges', paymentsUrl), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ orderId, amount }),
        signal: AbortSignal.timeout(PAYMENTS_MS)
      })
      // Read to the end, or the connection is not used again.
      await response.arrayBuffer()
      status = response.status
    } catch (error) {
      throw failure(502, 'payments does not answer', error)
    }
    if (status === 402) throw failure(402, 'the charge was declined')
    if (status !== 201) throw failure(502, `payments answered ${status}`)
    // Knows nothing of the request; the line has its ids all the same.
    app.log.info({ order_id: orderId }, 'order charged')
  }

  async function processOrder(wanted: NewOrder): Promise<Order> {
    const id = randomUUID()
    withSpan('validate', () => validate(wanted))
    await withSpan('charge', { 'app.order.amount': wanted.amount }, () => charge(id, wanted.amount))
    return await database.insert({ id, ...wanted })
  }

  app.post<{ Body: NewOrder }>(
    '/orders',
    { schema: { body: newOrder, response: { 201: order } } },
    async (request, reply) => {
      const stop = processing.startTimer()
      request.log.debug({ amount: request.body.amount }, 'processing the order')
      try {
        const stored = await withSpan('process_order', () => processOrder(request.body))
        request.log.info({ order_id: stored.id }, 'order stored')
        return reply.code(201).header('location', `/orders/${stored.id}`).send(stored)
      } finally {
        stop()
      }
    }
  )

  app.get<{ Params: { id: string } }>(
    '/orders/:id',
    { schema: { params: byId, response: { 200: order } } },
    async ({ params: { id } }) => {
      const cached = await cache?.get(id)
      if (cached) return cached
      const found = await database.find(id)
      if (!found) throw failure(404, `there is no order ${id}`)
      await cache?.set(found)
      return found
    }
  )

  app.get('/orders/export', async (_request, reply) => {
    async function* lines(): AsyncGenerator<string> {
      for await (const order of database.all()) yield `${JSON.stringify(order)}\n`
    }
    return reply.type('application/x-ndjson').send(Readable.from(lines()))
  })

  app.get<{ Querystring: { ms: number } }>('/slow', { schema: { querystring: delay } }, async (request) => {
    const { ms } = request.query
    request.log.info({ wait_ms: ms }, 'waiting')
    await wait(ms, undefined, { signal: request.signal })
    return { waited_ms: ms }
  })

  app.get('/boom', async () => {
    throw new Error('boom')
  })

  app.post<{ Body: { role: string } }>('/signups', { schema: { body: signup } }, async (request, reply) => {
    const session = randomUUID()
    sessions.add(session)
    signups.inc({ role: request.body.role })
    return reply.code(201).send({ session })
  })

  app.delete<{ Params: { id: string } }>('/sessions/:id', { schema: { params: byId } }, async (request, reply) => {
    if (!sessions.delete(request.params.id)) throw failure(404, 'there is no such session')
    return reply.code(204).send()
  })

  return app
}
