import { isMainThread, parentPort } from 'node:worker_threads'
import Fastify from 'fastify'
import metrics from '../src/index.ts'

// One of several: a worker of node:cluster, or a worker thread.
const app = Fastify()
await app.register(metrics)
const done = app.metrics.counter({ name: 'done_total', help: 'Done.' })
app.metrics.gauge({ name: 'members', help: 'Members in a sum.' }).set(1)
app.get('/', async () => {
  done.inc()
  return String(process.pid)
})
app.get('/brief', async () => {
  const brief = Fastify()
  await brief.register(metrics)
  brief.metrics.counter({ name: 'done_total', help: 'Done.' }).inc(5)
  await brief.close()
  return 'closed'
})
app.get('/hang', async () => {
  const until = performance.now() + 3_000
  while (performance.now() < until);
  return 'back'
})
const leave = () => void app.close().then(() => process.exit(0))
const address = await app.listen({ port: 0, host: '127.0.0.1' })
if (isMainThread) process.once('SIGTERM', leave)
else parentPort?.once('message', leave)
parentPort?.postMessage(address)
