// Answers 10,000 requests, with the developer page or without, and prints the megabytes that the process then has.
import { Agent, request } from 'node:http'
import logging from '@fastify-observability/logging'
import tracing from '@fastify-observability/tracing'
import Fastify from 'fastify'
import devtools, { spanProcessor } from '../src/index.ts'

const isOn = process.argv[2] === 'on'
const REQUESTS = 10_000
const AT_ONCE = 8

const app = Fastify()
if (isOn) await app.register(devtools)
await app.register(logging, { stream: { write: () => undefined } })
await app.register(tracing, isOn ? { spanProcessors: [spanProcessor] } : {})
app.get('/orders/:id', async ({ log }) => {
  log.info({ order: 7 }, 'found')
  log.debug('below')
  return { id: 7 }
})
const address = await app.listen({ port: 0, host: '127.0.0.1' })
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })

async function ask(id: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  request(`${address}/orders/${id}`, { agent }, (response) => response.resume().on('end', resolve))
    .on('error', reject)
    .end()
  await promise
}

async function load(requests: number): Promise<void> {
  for (let id = 0; id < requests; id += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => ask(id + index)))
  }
}

await load(1_000)
globalThis.gc?.()
const before = process.memoryUsage.rss()
await load(REQUESTS)
globalThis.gc?.()
console.log((process.memoryUsage.rss() - before) / 1024 / 1024)
agent.destroy()
await app.close()
