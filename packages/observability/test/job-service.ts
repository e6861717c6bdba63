import { once } from 'node:events'
import Fastify from 'fastify'
import observability, { logger } from '../src/index.ts'

// A user's service with a job that begins at the start and ends after the signal, for the test to run as a process of its own.
const app = Fastify()
await app.register(observability, { health: { shutdown: { delayMs: 0 } } })
await app.listen({ port: 0, host: '127.0.0.1' })
await app.observability.observe('import-orders', async () => {
  logger().info('working')
  await once(process, 'SIGTERM')
  await new Promise((resolve) => setTimeout(resolve, 300))
  logger().info('worked')
})
