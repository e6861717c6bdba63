// HTTP/2 without TLS, as behind a proxy.
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify({ http2: true })
await app.register(observability)
app.get('/orders/:id', async ({ params }) => params)
app.get('/boom', async () => {
  throw new TypeError('boom')
})
await app.listen({ port: 0, host: '127.0.0.1' })
