// The service whose terminal is shown in the README.
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import observability, { currentObservation } from 'fastify-observability'

const app = Fastify()
await app.register(observability, { service: { name: 'shop' } })

app.get('/orders/:id', async (request) => {
  currentObservation()?.add({ plan: 'pro' })
  await sleep(12)
  return { id: Number((request.params as { id: string }).id) }
})
app.post('/orders', async (request, reply) => {
  request.log.info({ items: 3 }, 'order received')
  return reply.code(201).send({ id: 8 })
})
app.get('/invoices/:id', async () => invoiceOf(undefined))

function invoiceOf(order: { total: number } | undefined): number {
  if (!order) throw new TypeError('the order has no invoice', { cause: new Error('row 7 is gone') })
  return order.total
}

const origin = await app.listen({ port: 0, host: '127.0.0.1' })
await fetch(`${origin}/orders/7`)
await fetch(`${origin}/orders`, { method: 'POST' })
await fetch(`${origin}/nowhere`)
await fetch(`${origin}/invoices/7`)
await app.close()
