// The service has fastify-metrics already: the suite's series move to a path of their own, or to the `management` port.

import Fastify from 'fastify'
import fastifyMetrics from 'fastify-metrics'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability, { metrics: { path: '/observability/metrics' } })
await app.register(async (scope) => {
  await scope.register(fastifyMetrics.default ?? fastifyMetrics, { endpoint: '/metrics' })
  scope.get('/orders/:id', async ({ params }) => params)
})
await app.listen({ port: 0, host: '127.0.0.1' })
