// Compressed answers, and one that is streamed.
import { Readable } from 'node:stream'
import compress from '@fastify/compress'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(compress, { threshold: 0 })
app.get('/orders/:id', async ({ params }) => ({ ...params, text: 'long '.repeat(1000) }))
app.get('/export', async (_request, reply) => reply.type('text/plain').send(Readable.from(['one ', 'two'])))
app.get('/boom', async () => {
  throw new TypeError('boom')
})
await app.listen({ port: 0, host: '127.0.0.1' })
