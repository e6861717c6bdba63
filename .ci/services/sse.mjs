// Server-sent events.
import sse from '@fastify/sse'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(sse)
app.get('/events', { sse: true }, async (_request, reply) => {
  for (const data of ['one', 'two']) await reply.sse.send({ data })
})
app.get('/broken', { sse: true }, async () => {
  throw new TypeError('before the first event')
})
await app.listen({ port: 0, host: '127.0.0.1' })
