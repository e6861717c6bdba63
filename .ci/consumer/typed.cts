import Fastify = require('fastify')
import observability = require('fastify-observability')

const app = Fastify()
app.register(observability.default, { service: { name: 'orders' } })
app.get('/orders/:id', (request, reply) => observability.withSpan('send', () => reply.send({ id: request.id })))
