import { setImmediate as turn } from 'node:timers/promises'
import { startCollector } from '@fastify-observability/testing/collector'
import { startPyroscope } from '@fastify-observability/testing/pyroscope'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions, observe } from '../src/index.ts'

/** A service that computes what an order costs, with its spans and profiles at hand. */
async function profiled(t: Test, options: ObservabilityOptions = {}) {
  const [collector, pyroscope] = await Promise.all([startCollector(), startPyroscope()])
  t.teardown(() => Promise.all([collector.close(), pyroscope.close()]))
  const app = Fastify()
  await app.register(observability, {
    service: { name: 'orders', version: '1.4.0' },
    logging: false,
    tracing: { endpoint: collector.url },
    profiling: { serverAddress: pyroscope.url, samplingIntervalMs: 1 },
    ...options
  })
  async function priceOrder() {
    await turn()
    const before = process.cpuUsage()
    while (process.cpuUsage(before).user < 100_000) Math.sqrt(before.user)
  }
  app.get('/orders/:id', priceOrder)
  t.teardown(() => app.close())
  const samples = () => pyroscope.profiles.flatMap(({ samples }) => samples)
  return { app, collector, pyroscope, samples, priceOrder }
}

test('links the span of each request to its samples', async (t) => {
  const { app, collector, samples } = await profiled(t)
  for (const id of [1, 2, 3]) await app.inject(`/orders/${id}`)
  await app.close()
  const spans = collector.spans.filter(({ kind }) => kind === 'SERVER')
  t.equal(spans.length, 3)
  for (const { spanId, name, attributes } of spans) {
    t.equal(attributes['pyroscope.profile.id'], spanId)
    const own = samples().filter(({ labels }) => labels.span_id === spanId)
    t.ok(own.length > 0)
    t.ok(own.every(({ labels }) => labels.span_name === name && labels.http_route === '/orders/:id'))
  }
  const priced = samples().filter(({ functions }) => functions.includes('priceOrder'))
  t.ok(priced.every(({ labels }) => labels.span_id !== undefined))
})

test('links the span of a job to its samples', async (t) => {
  const { app, collector, samples, priceOrder } = await profiled(t)
  await app.ready()
  await observe('price-orders', priceOrder)
  await app.close()
  const span = collector.spans.find(({ name }) => name === 'price-orders')
  t.equal(span?.attributes['pyroscope.profile.id'], span?.spanId)
  const own = samples().filter(({ labels }) => labels.job === 'price-orders')
  t.same(new Set(own.map(({ labels }) => labels.span_id)), new Set([span?.spanId]))
})

test('names the service as its other signals do', async (t) => {
  const { app, pyroscope } = await profiled(t)
  await app.close()
  t.match(pyroscope.profiles[0]?.query.name, /^orders\{.*service_version=1\.4\.0\}$/)
})

test('shows on /metrics and in the report what became of the profiles', async (t) => {
  const { app, pyroscope } = await profiled(t, {
    profiling: { serverAddress: 'http://127.0.0.1:9', pushIntervalMs: 20 }
  })
  t.same(pyroscope.profiles, [])
  const reported = () => app.observability.report().dropped['profiles_dropped_total{network_error}']
  while (reported() === undefined) await turn()
  const { body } = await app.inject('/metrics')
  t.match(body, /^profiles_pushed_total 0$/m)
  t.match(body, /^profiles_dropped_total\{reason="network_error"\} \d+$/m)
})

test('profiles nothing until it is asked to', async (t) => {
  const { app, pyroscope, collector } = await profiled(t, { profiling: false })
  await app.inject('/orders/1')
  await app.close()
  t.equal(pyroscope.profiles.length, 0)
  t.notOk('pyroscope.profile.id' in (collector.spans[0]?.attributes ?? {}))
})
