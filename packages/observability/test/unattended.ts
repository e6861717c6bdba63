import { isMainThread, Worker } from 'node:worker_threads'
import Fastify, { type FastifyInstance } from 'fastify'
import observability from '../src/index.ts'

// A user's service with no option at all, for the tests to run as a process of its own.
const { APPS = '1', COPY, HANDLER, IDLE, PID, WORKER } = process.env
if (PID) Object.defineProperty(process, 'pid', { value: Number(PID) })
const handle = (): void => void setTimeout(() => process.exit(7), 100)
if (HANDLER === 'before') process.once('SIGTERM', handle)

async function serve(): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(observability)
  app.get('/orders/:id', async () => 'ok')
  app.get('/boom', async () => Promise.reject(new TypeError('boom')))
  return app
}

const apps = await Promise.all(Array.from({ length: Number(APPS) }, serve))
if (HANDLER === 'after') process.on('SIGTERM', handle)
if (COPY) {
  const copy: typeof import('../src/signals.ts') = await import(`../src/signals.ts?${COPY}`)
  for (const app of apps) copy.deliverAtSignals(app)
}
if (WORKER && isMainThread) new Worker(new URL(import.meta.url))
else for (const app of apps) await (IDLE ? app.inject('/orders/7') : app.listen({ port: 0, host: '127.0.0.1' }))
