import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { currentObservation } from '@fastify-observability/observation'
import { registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import metrics, { type CustomLabel } from '../src/index.ts'

const REQUESTS = 400
const CONNECTIONS = 40

/** An app whose requests are in a sampled trace each, with the request's id in it. */
async function traced(tenant: CustomLabel): Promise<FastifyInstance> {
  const app = Fastify({ requestIdHeader: 'x-request-id' })
  await app.register(metrics, { exclude: ['/metrics'], customLabels: { tenant } })
  registryOf(app).observe({
    name: 'span',
    start(observation) {
      const traceId = traceOf(String(observation.headers['x-request-id']))
      observation.spanContext = { traceId, spanId: 'b'.repeat(16), traceFlags: 1 }
    }
  })
  app.get('/ok', async () => ({}))
  app.get('/bad', async () => Promise.reject(new Error('bad')))
  return app
}

function traceOf(id: string): string {
  return id.padStart(32, 'a')
}

/** Sends all requests over as many connections as may be open at a time; every tenth fails. */
async function send(url: string): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const requests = Array.from({ length: REQUESTS }, async (_, id) => {
    const path = id % 10 === 9 ? '/bad' : '/ok'
    const [response] = await once(get(url + path, { agent, headers: { 'x-request-id': `${id}` } }), 'response')
    await once(response.resume(), 'close')
  })
  await Promise.all(requests)
  agent.destroy()
}

test('calls customLabels in the scope of their own request, under load and for failing ones', async (t) => {
  const own: boolean[] = []
  const app = await traced((request) => {
    own.push(currentObservation()?.request === request)
    return 'x'
  })
  await send(await app.listen({ port: 0, host: '127.0.0.1' }))
  await app.close()
  t.equal(own.length, REQUESTS)
  t.equal(own.filter(Boolean).length, REQUESTS)
})

test('takes the exemplar of a counter from the request in whose end it is incremented', async (t) => {
  const app = await traced((request) => void labelled.inc({ id: request.id }))
  const labelled = app.metrics.counter({ name: 'labelled_total', help: 'L.', labelNames: ['id'] })
  const ended = app.metrics.counter({ name: 'ended_total', help: 'E.', labelNames: ['id'] })
  app.observation.observe({ name: 'test', end: ({ request }) => ended.inc({ id: request?.id ?? 'none' }) })
  await send(await app.listen({ port: 0, host: '127.0.0.1' }))
  const { body } = await app.inject({ url: '/metrics', headers: { accept: 'application/openmetrics-text' } })
  await app.close()
  for (const name of ['labelled', 'ended']) {
    const lines = [...body.matchAll(new RegExp(`^${name}_total{id="(\\d+)"} 1.* # {trace_id="(\\w+)"`, 'gm'))]
    t.equal(lines.length, REQUESTS)
    t.equal(lines.filter(([, id = '', trace]) => trace === traceOf(id)).length, REQUESTS, name)
  }
})
