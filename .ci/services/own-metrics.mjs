// The service has a /metrics of its own: the suite's series are served elsewhere.
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability, { metrics: { path: '/observability/metrics' } })
app.get('/metrics', async (_request, reply) => reply.type('text/plain').send('orders_total 3\n'))
app.get('/orders/:id', async ({ params }) => params)
await app.listen({ port: 0, host: '127.0.0.1' })
