// The description of the routes, without the suite's own.
import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(swagger, { openapi: { info: { title: 'Orders', version: '1.0.0' } } })
const id = { type: 'integer' }
app.get('/orders/:id', { schema: { params: { type: 'object', properties: { id } } } }, async ({ params }) => params)
app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
await app.listen({ port: 0, host: '127.0.0.1' })
