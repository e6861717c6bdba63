import Fastify from 'fastify'
import tracing from '../src/index.ts'

const app = Fastify()
await app.register(tracing)
app.get('/charges/:id', async () => 'charged')
process.send?.(await app.listen({ port: 0, host: '127.0.0.1' }))
process.once('disconnect', () => app.close())
