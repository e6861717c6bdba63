import { isMainThread, parentPort } from 'node:worker_threads'
import Fastify from 'fastify'
import observability from '../src/index.ts'

// One of several that share a log file, a worker of node:cluster or a worker thread.
const app = Fastify()
// A worker thread would write to the standard output of the test.
await app.register(observability, { logging: { stream: { write: () => undefined }, file: process.env.FILE ?? '' } })
let count = 0
app.get('/', async (request) => {
  const entry = `${process.env.WORKER}-${count++}`
  request.log.info({ entry }, 'entry')
  return entry
})
const address = await app.listen({ port: 0, host: '127.0.0.1' })
if (isMainThread) process.send?.(address)
else parentPort?.postMessage(address)
