import { setTimeout as wait } from 'node:timers/promises'
import health from '@fastify-observability/health'
import logging from '@fastify-observability/logging'
import metrics from '@fastify-observability/metrics'
import { registryOf } from '@fastify-observability/observation/internal'
import requestId from '@fastify-observability/request-id'
import tracing, { withSpan } from '@fastify-observability/tracing'
import { SpanKind, trace } from '@opentelemetry/api'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import devtools, { type DevtoolsOptions, spanProcessor } from '../src/index.ts'

export interface Service {
  app: FastifyInstance
  /** What was written of its log. */
  written: Record<string, unknown>[]
}

async function query(text: string): Promise<void> {
  const attributes = { 'db.query.text': text, 'db.system.name': 'postgresql' }
  await trace
    .getTracer('pg')
    .startActiveSpan('pg.query:SELECT', { kind: SpanKind.CLIENT, attributes }, async (span) => {
      await wait(1)
      span.end()
    })
}

async function charge(): Promise<never> {
  const cause = new Error('card refused')
  throw Object.assign(new Error('the charge failed', { cause }), { statusCode: 502 })
}

export const API = '/_observability/api'

/** What the page receives. */
export async function ask(app: FastifyInstance, path: string) {
  const response = await app.inject(`${API}/${path}`)
  return response.json()
}

/** More jobs at once than are recorded, on a machine that takes seconds for them, too: all begin in one turn. */
export async function floodJobs(app: FastifyInstance): Promise<void> {
  const { observe } = registryOf(app).jobs
  await Promise.all(Array.from({ length: 10_000 }, () => observe('mail', async () => undefined)))
}

/** A service with all parts, and the developer page. */
export async function startService(t: Test, options: DevtoolsOptions = {}, endpoint?: string): Promise<Service> {
  const written: Service['written'] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(devtools, options)
  await app.register(requestId)
  await app.register(logging, { stream: { write: (line: string) => void written.push(JSON.parse(line)) } })
  await app.register(tracing, { spanProcessors: [spanProcessor], ...(endpoint && { endpoint }) })
  await app.register(metrics)
  await app.register(health, {
    checks: { database: () => ({ latency: 3 }), cache: () => Promise.reject(new Error('cache is down')) }
  })
  app.get('/ok', async (request) => {
    request.log.debug('found')
    return { ok: true }
  })
  app.post('/enqueue', async ({ observation }) => {
    const options = { links: [observation.spanContext], attempt: 2, attempts: 3 }
    await registryOf(app).jobs.observe('mail', options, async () => undefined)
    return 'enqueued'
  })
  app.post('/orders', async (request) => {
    request.observation.add({ plan: 'pro' })
    request.log.debug({ amount: 42 }, 'validating the order')
    await withSpan('validate', () => wait(1))
    for (const _line of [1, 2, 3]) await query('SELECT * FROM lines WHERE id = $1')
    request.log.info('order stored')
    await withSpan('charge', charge)
  })
  return { app, written }
}
