import type { FastifyBaseLogger } from 'fastify'
import { type Check, redis } from 'fastify-observability'
import { createClient } from 'redis'
import type { Order } from './database.ts'

/** Orders by id. It helps when it can: reads and writes never fail, a failed read is a miss. */
export interface Cache {
  /** Connects in the background: the service starts, and stays up, without Redis. */
  connect(): void
  get(id: string): Promise<Order | undefined>
  set(order: Order): Promise<void>
  /** Fails unless Redis answers. */
  readonly check: Check
  close(): void
}

const ANSWER_MS = 250
const TTL_S = 60

export function openCache(url: string, log: () => FastifyBaseLogger): Cache {
  const client = createClient({ url, disableOfflineQueue: true })
  let connected = true
  client.on('error', (error) => {
    // One line an outage, not one an attempt to reconnect.
    if (connected) log().warn({ err: error }, 'the cache is gone, the database answers')
    connected = false
  })
  client.on('ready', () => {
    connected = true
  })

  async function attempt<Result>(command: () => Promise<Result>): Promise<Result | undefined> {
    if (!client.isReady) return undefined
    try {
      return await within(ANSWER_MS, command())
    } catch (error) {
      log().warn({ err: error }, 'the cache failed, the database answers')
      return undefined
    }
  }

  return {
    check: redis(client),
    connect() {
      // What keeps it from connecting comes as 'error'.
      client.connect().catch(() => undefined)
    },
    async get(id) {
      const found = await attempt(() => client.get(`order:${id}`))
      return found ? JSON.parse(found) : undefined
    },
    async set(order) {
      await attempt(() =>
        client.set(`order:${order.id}`, JSON.stringify(order), { expiration: { type: 'EX', value: TTL_S } })
      )
    },
    close() {
      if (client.isOpen) client.destroy()
    }
  }
}

// The client's own timeout covers a command only until it is written.
function within<Result>(ms: number, work: Promise<Result>): Promise<Result> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms)
  return Promise.race([work, promise]).finally(() => clearTimeout(timer))
}
