// The service sheds load with a plugin of its own: `health.pressure` stays unset.
import underPressure from '@fastify/under-pressure'
import Fastify from 'fastify'
import observability from 'fastify-observability'

const app = Fastify()
await app.register(observability)
await app.register(underPressure, { maxRssBytes: Number(process.env.MAX_RSS_BYTES ?? 2e9), sampleInterval: 100 })
app.get('/orders/:id', async ({ params }) => params)
await app.listen({ port: 0, host: '127.0.0.1' })
