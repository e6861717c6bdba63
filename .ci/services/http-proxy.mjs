// A gateway: the answer, the line, the span and the upstream's request carry the gateway's ids.
import { once } from 'node:events'
import { createServer } from 'node:http'
import proxy from '@fastify/http-proxy'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const upstream = createServer(({ headers }, response) => {
  response.setHeader('x-request-id', 'of-the-upstream').end(JSON.stringify(headers))
}).listen(0, '127.0.0.1')
await once(upstream, 'listening')

const app = Fastify()
await app.register(observability)
await app.register(proxy, { upstream: `http://127.0.0.1:${upstream.address().port}`, prefix: '/api' })
// Nothing listens on port 9.
await app.register(proxy, { upstream: 'http://127.0.0.1:9', prefix: '/dead' })
await app.listen({ port: 0, host: '127.0.0.1' })
