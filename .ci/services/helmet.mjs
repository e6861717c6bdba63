// Security headers, on errors too.
import helmet from '@fastify/helmet'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(helmet)
app.get('/orders/:id', async ({ params }) => params)
app.get('/boom', async () => {
  throw new TypeError('boom')
})
await app.listen({ port: 0, host: '127.0.0.1' })
