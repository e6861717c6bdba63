// Connect-style middleware, which answers some requests itself.
import middie from '@fastify/middie'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(middie)
app.use('/legacy', (_request, response) => response.end('from middleware'))
app.get('/orders/:id', async ({ params }) => params)
app.get('/boom', async () => {
  throw new TypeError('boom')
})
await app.listen({ port: 0, host: '127.0.0.1' })
