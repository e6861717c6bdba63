import { once } from 'node:events'
import { Queue, Worker } from 'bullmq'
import Fastify from 'fastify'
import observability, { bullmqTelemetry, currentObservation, logger, observe } from '../src/index.ts'

// A user's service whose worker is amid a job at the signal, for the test to run as a process of its own.
const { WAY, REDIS_PORT } = process.env
const app = Fastify()
await app.register(observability, { health: { shutdown: { delayMs: 0 } } })
const options = {
  connection: { host: '127.0.0.1', port: Number(REDIS_PORT) },
  ...(WAY === 'telemetry' && { telemetry: bullmqTelemetry(app) })
}
const queue = new Queue('orders', options)
async function work(): Promise<void> {
  logger().info('working')
  await once(process, 'SIGTERM')
  await new Promise((resolve) => setTimeout(resolve, 300))
  logger().info('worked')
}
const worker = new Worker(
  'orders',
  WAY === 'telemetry' ? work : (job) => observe(job.name, { links: [job.data.origin] }, work),
  options
)
app.addHook('onClose', async () => void (await Promise.all([worker.close(), queue.close()])))
app.get('/', async () => (await queue.add('import', { origin: currentObservation()?.spanContext })).id)
await app.listen({ port: 0, host: '127.0.0.1' })
await app.inject('/')
