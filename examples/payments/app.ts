import { randomUUID } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import observability from 'fastify-observability'

export interface PaymentsOptions {
  /** Share of charges that fail with 500, from 0 to 1. @default 0 */
  failureRate?: number
}

interface Charge {
  orderId: string
  /** In cents. */
  amount: number
}

/** In cents; above it a charge is declined. */
const LIMIT = 100_000

const chargeSchema = {
  body: {
    type: 'object',
    required: ['orderId', 'amount'],
    properties: {
      orderId: { type: 'string', minLength: 1, maxLength: 64 },
      amount: { type: 'integer', minimum: 1 }
    }
  },
  response: {
    201: { type: 'object', properties: { id: { type: 'string' }, status: { type: 'string' } } }
  }
}

export async function buildApp({ failureRate = 0 }: PaymentsOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(observability, {
    service: { name: process.env.OTEL_SERVICE_NAME || 'payments' },
    profiling: Boolean(process.env.PYROSCOPE_SERVER_ADDRESS)
  })

  app.post<{ Body: Charge }>('/charges', { schema: chargeSchema }, async (request, reply) => {
    const { orderId, amount } = request.body
    if (Math.random() < failureRate) throw new Error('the card network does not answer')
    if (amount > LIMIT) {
      throw Object.assign(new Error(`the charge is above the limit of ${LIMIT} cents`), { statusCode: 402 })
    }
    const id = randomUUID()
    request.log.info({ charge_id: id, order_id: orderId }, 'card charged')
    return reply.code(201).send({ id, status: 'charged' })
  })

  return app
}
