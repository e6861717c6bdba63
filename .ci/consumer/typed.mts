import devtools, { spanProcessor } from '@fastify-observability/devtools'
import health from '@fastify-observability/health'
import logging from '@fastify-observability/logging'
import metrics, { clusterMetrics } from '@fastify-observability/metrics'
import observation from '@fastify-observability/observation'
import { exportSpans, type SpanExport } from '@fastify-observability/otlp'
import profiling from '@fastify-observability/profiling'
import requestId from '@fastify-observability/request-id'
import sentry from '@fastify-observability/sentry'
import tracing from '@fastify-observability/tracing'
import Fastify, { type FastifyInstance } from 'fastify'
import observability, { currentObservation, type ObservabilityOptions, withSpan } from 'fastify-observability'
import { observe, type Seen } from 'fastify-observability/testing'

const options: ObservabilityOptions = { service: { name: 'orders' }, sentry: false }
const app = Fastify()
await app.register(observability, options)
const management: FastifyInstance | undefined = app.management
await management?.register(clusterMetrics, { path: '/all' })
const orders = app.metrics.counter({ name: 'orders_total', help: 'Orders.', labelNames: ['kind'] })
app.get('/orders/:id', { config: { observability: { log: 'failures' } } }, async (request) => {
  orders.inc({ kind: 'book' })
  request.span?.setAttribute('order.kind', 'book')
  const count: number = await withSpan('count', async () => 1)
  return { count, requestId: currentObservation()?.requestId }
})

const seen: Seen = await observe(app)
const { line, event } = await seen.request({ route: '/orders/:id' }, { timeoutMs: 100 })
const status: number | undefined = line?.status_code
const thrown: string | undefined = event?.exception?.values?.[0]?.type
await seen.point('orders_total', { kind: `${status} ${thrown}` })
// @ts-expect-error: nothing that a request has
await seen.request({ rute: '/' })

const parts = Fastify()
await parts.register(observation)
await parts.register(devtools, { links: { Jaeger: 'http://localhost:16686/trace/{trace_id}' } })
await parts.register(requestId, { header: 'x-request-id' })
await parts.register(logging, { level: 'info' })
await parts.register(tracing, { endpoint: 'http://localhost:4317', spanProcessors: [spanProcessor] })
await parts.register(metrics, { path: '/metrics', customLabels: { tenant: (request) => request.hostname } })
await parts.register(health, { checks: { database: () => true } })
await parts.register(profiling, { serverAddress: 'http://localhost:4040' })
await parts.register(sentry, { dsn: 'https://key@localhost/1' })

const spans: SpanExport = exportSpans({ endpoint: 'http://localhost:4317', shutdownTimeoutMs: 1_000, log: app.log })
await spans.processor.forceFlush()

// @ts-expect-error: not an option
await app.register(observability, { log: false })
// @ts-expect-error: not a label
orders.inc({ colour: 'red' })
