// The whole of it: `node examples/smallest/server.ts`, then `curl localhost:8000/orders/7`, and again with `/orders/0`.
import Fastify from 'fastify'
import observability, { logger, withSpan } from 'fastify-observability'

const app = Fastify()
await app.register(observability)
const served = app.metrics.counter({ name: 'orders_served_total', help: 'Orders served.' })

app.get<{ Params: { id: string } }>('/orders/:id', async ({ params, observation }) => {
  observation.add({ order_id: params.id })
  if (params.id === '0') throw new Error('there is no order 0')
  const order = await withSpan('load order', async () => ({ id: params.id, item: 'book' }))
  logger().info('loaded')
  served.inc()
  return order
})

await app.listen({ port: Number(process.env.PORT || 8000) })
