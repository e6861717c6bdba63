import Fastify from 'fastify'
import observability from '../src/index.ts'

// A service with a request that lasts until another one ends it, for the tests to run as a process of its own.
const app = Fastify()
await app.register(observability, {
  logging: { level: 'info', otlp: true, keep: true },
  metrics: { otlp: true },
  health: { shutdown: true }
})
let release: (() => void) | undefined
app.get('/held', async (request) => {
  request.log.debug('below the level')
  request.log.info('held')
  await new Promise<void>((resolve) => {
    release = resolve
  })
  throw new Error('boom')
})
app.get('/release', async () => release?.())
await app.listen({ port: 0, host: '127.0.0.1' })
