// A route that forwards to an upstream.
import { once } from 'node:events'
import { createServer } from 'node:http'
import replyFrom from '@fastify/reply-from'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const upstream = createServer(({ headers, url, socket }, response) => {
  if (url === '/v2/dead') socket.destroy()
  response.setHeader('x-request-id', 'of-the-upstream').end(JSON.stringify(headers))
}).listen(0, '127.0.0.1')
await once(upstream, 'listening')

const app = Fastify()
await app.register(observability)
await app.register(replyFrom, { base: `http://127.0.0.1:${upstream.address().port}` })
app.get('/orders/:id', (request, reply) => reply.from(`/v2/orders/${request.params.id}`))
app.get('/dead', (_request, reply) => reply.from('/v2/dead'))
await app.listen({ port: 0, host: '127.0.0.1' })
