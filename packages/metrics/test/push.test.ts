import { registryOf } from '@fastify-observability/observation/internal'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import metrics, { type MetricsOptions } from '../src/index.ts'

const SPAN = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }
const service = { name: 'shop', version: '1.2.3', environment: 'test' }

/** An app with an order of a sampled trace behind it, a collector for its points, and its lines. */
async function ordered(t: Test, env: Record<string, string>, options: MetricsOptions = {}) {
  const collector = await startCollector()
  withEnv(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env })
  t.teardown(() => collector.close())
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => void lines.push(line) } } })
  t.teardown(() => app.close())
  await app.register(metrics, { service, ...options })
  registryOf(app).observe({
    name: 'span',
    start: (observation) => void Object.assign(observation, { spanContext: SPAN })
  })
  app.get('/orders/:id', async () => 'four')
  await app.inject('/orders/1')
  const named = (name: string) => collector.points.filter((point) => point.name === name)
  return { app, collector, lines, named }
}

test('pushes the last values when the app closes, with resource, scope and exemplar', async (t) => {
  const { app, collector, named } = await ordered(t, { OTEL_METRICS_EXPORTER: 'prometheus, OTLP' })
  await app.close()
  t.match(named('http.server.request.duration'), [
    {
      ...{ type: 'histogram', unit: 's', temporality: 'cumulative', count: 1, exemplars: [{ traceId: SPAN.traceId }] },
      attributes: { 'http.route': '/orders/:id', 'http.response.status_code': 200, 'url.scheme': 'http' },
      scope: { name: '@fastify-observability/metrics', version: /^\d+\.\d+\.\d+/ },
      resource: { 'service.name': 'shop', 'service.version': '1.2.3', 'telemetry.sdk.language': 'nodejs' }
    }
  ])
  t.equal(named('process_resident_memory_bytes')[0]?.unit, 'By')
  t.equal(collector.metricCalls, 1)
})

test('pushes what /metrics says at that moment, and serves it beside', async (t) => {
  const { app, named } = await ordered(t, {}, { otlp: true })
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['queue'] })
  jobs.inc({ queue: 'mail' }, 3)
  const { body } = await app.inject('/metrics')
  await registryOf(app).flush(PATIENCE_MS)
  t.match(body, /^jobs_total\{queue="mail"\} 3$/m)
  t.match(named('jobs_total'), [{ type: 'sum', isMonotonic: true, value: 3, attributes: { queue: 'mail' } }])
})

test('pushes the default labels of the registry as attributes, of request metrics and of all others', async (t) => {
  const { app, named } = await ordered(t, {}, { otlp: true })
  app.metrics.counter({ name: 'jobs_total', help: 'Jobs.' }).inc()
  app.metrics.registry.setDefaultLabels({ region: 'eu' })
  await registryOf(app).flush(PATIENCE_MS)
  const names = ['jobs_total', 'http.server.request.duration', 'process_resident_memory_bytes']
  for (const name of names) t.equal(named(name)[0]?.attributes.region, 'eu', name)
})

test('counts the points that it has pushed on /metrics', async (t) => {
  const { app, collector } = await ordered(t, {}, { otlp: true })
  await registryOf(app).flush(PATIENCE_MS)
  const { body } = await app.inject('/metrics')
  t.match(body, `\notel_sdk_exporter_metric_data_point_exported_total{error_type=""} ${collector.points.length}\n`)
})

test('pushes deltas that add up to the cumulative count', async (t) => {
  const env = { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'delta' }
  const { app, named } = await ordered(t, env, { otlp: true })
  for (let pushes = 0; pushes < 5; pushes++) {
    await registryOf(app).flush(PATIENCE_MS)
    for (let requests = 0; requests <= pushes; requests++) await app.inject('/orders/2')
  }
  await app.close()
  const counts = named('http.server.request.duration').map(({ count }) => count)
  t.same(counts, [1, 1, 2, 3, 4, 5])
})

test('has https as url.scheme where the app serves it', async (t) => {
  const { app, collector } = await ordered(t, {})
  const secure = Fastify({ https: {} })
  await secure.register(metrics, { otlp: true })
  await secure.inject('/nowhere')
  await Promise.all([app.close(), secure.close()])
  const [point] = collector.points.filter(({ name }) => name === 'http.server.request.duration')
  t.equal(point?.attributes['url.scheme'], 'https')
})

for (const [title, env, options] of [
  ['nobody asks for it', {}, {}],
  ['the option is false', { OTEL_METRICS_EXPORTER: 'otlp' }, { otlp: false }],
  ['the environment says none', { OTEL_METRICS_EXPORTER: 'none' }, {}],
  ['OpenTelemetry is disabled', { OTEL_SDK_DISABLED: 'true' }, { otlp: true }]
] as const) {
  test(`pushes nothing when ${title}`, async (t) => {
    const { app, collector } = await ordered(t, env, options)
    await app.close()
    t.equal(collector.metricCalls, 0)
  })
}

test('names an exporter of metrics that it does not know, and goes on', async (t) => {
  const { app, collector, lines } = await ordered(t, { OTEL_METRICS_EXPORTER: 'statsd,otlp' })
  await app.close()
  const msg = "metrics: OTEL_METRICS_EXPORTER must be a list of otlp, prometheus, none, 'statsd' is ignored"
  t.match(
    lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 40),
    [{ msg }]
  )
  t.equal(collector.metricCalls, 1)
})

test('closes in time when nobody takes the points', async (t) => {
  const { app, collector, lines } = await ordered(t, {}, { otlp: true })
  await collector.close()
  await app.close()
  t.match(lines.join(''), /metric points could not be exported/)
})
