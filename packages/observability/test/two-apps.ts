import { setTimeout as wait } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import observability from '../src/index.ts'

// Two services of one process: one is idle, the other answers after a second.
const { SHUTDOWN = '{}', FAILING } = process.env

async function service(): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(observability, { health: { shutdown: JSON.parse(SHUTDOWN) }, sentry: false })
  app.get('/', async ({ log }) => {
    log.info('asked')
    return wait(1_000, 'ok')
  })
  return app
}

const [idle, slow] = await Promise.all([service(), service()])
slow.log.info(`slow at ${await slow.listen({ port: 0, host: '127.0.0.1' })}`)
if (FAILING) idle.addHook('onClose', () => Promise.reject(new Error('the database is gone')))
await idle.listen({ port: 0, host: '127.0.0.1' })
