// Browsers of another origin may read the ids.
import cors from '@fastify/cors'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(cors, { origin: 'https://shop.example', exposedHeaders: ['x-request-id', 'server-timing'] })
app.get('/orders/:id', async ({ params }) => params)
await app.listen({ port: 0, host: '127.0.0.1' })
