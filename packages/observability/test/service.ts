import Fastify from 'fastify'
import observability from '../src/index.ts'

// A user's service, for the test to run as a process of its own.
const app = Fastify()
await app.register(observability)
app.get('/orders/:id', async () => 'ok')
app.get('/boom', async () => Promise.reject(new TypeError('boom')))
process.once('SIGTERM', () => app.close())
await app.listen({ port: 0, host: '127.0.0.1' })
