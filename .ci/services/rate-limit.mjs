// One request a minute and caller.
import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(rateLimit, { global: false })
app.get('/orders/:id', { config: { rateLimit: { max: 1 } } }, async ({ params }) => params)
await app.listen({ port: 0, host: '127.0.0.1' })
