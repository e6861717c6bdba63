import { once } from 'node:events'
import { connect } from 'node:net'
import { registryOf } from '@fastify-observability/observation/internal'
import { type CollectorOptions, startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions } from '../src/index.ts'

const NOTHING = { pending: 0, dropped: 0 }

async function service(t: Test, collecting: CollectorOptions = {}, options: ObservabilityOptions = {}) {
  const collector = await startCollector(collecting)
  const lines: string[] = []
  const app = Fastify({ forceCloseConnections: true })
  await app.register(observability, {
    logging: { stream: { write: (line) => void lines.push(line) }, format: 'json' },
    tracing: { endpoint: collector.url, shutdownTimeoutMs: 100 },
    ...options
  })
  t.teardown(async () => {
    await app.close()
    await collector.close()
  })
  app.get('/orders/:id', async () => 'the order')
  app.get('/boom', async () => Promise.reject(new TypeError('boom')))
  return { app, collector, lines }
}

test('delivers lines, spans, points and events, and says that it has', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const { app, collector } = await service(t, {}, { sentry: { dsn: ingest.dsn } })
  await app.inject('/boom')
  const report = await app.observability.flush(PATIENCE_MS)
  t.same(report, { complete: true, lines: NOTHING, spans: NOTHING, events: NOTHING })
  t.match(collector.spans, [{ name: 'GET /boom' }])
  t.equal(ingest.events.length, 1)

  // For a timer of Node's this is one millisecond.
  await app.inject('/boom')
  t.same(await app.observability.flush(Number.POSITIVE_INFINITY), report)
  t.equal(ingest.events.length, 2)
})

test('delivers the points of now where metrics are pushed', async (t) => {
  const { collector } = await service(t)
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector.url
  const other = Fastify()
  await other.register(observability, { logging: { level: 'silent' }, tracing: false, metrics: { otlp: true } })
  t.teardown(() => other.close())
  Reflect.deleteProperty(process.env, 'OTEL_EXPORTER_OTLP_ENDPOINT')
  await other.inject('/orders/7')
  t.match(await other.observability.flush(PATIENCE_MS), { complete: true, points: NOTHING })
  t.match(
    collector.points.find(({ name }) => name === 'http.server.request.duration'),
    { count: 1 }
  )
})

test('delivers the span of a request whose answer the client has just received', async (t) => {
  const { app, collector } = await service(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect(Number(new URL(app.listeningOrigin).port), '127.0.0.1')
  for (let request = 1; request <= 20; request++) {
    socket.write('GET /orders/7 HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await once(socket, 'data')
    t.equal((await app.observability.flush(PATIENCE_MS)).complete, true)
    t.equal(collector.spans.length, request)
  }
  socket.destroy()
})

test('says what it could not deliver in time', async (t) => {
  const { app } = await service(t, { answer: () => 'never' })
  await app.inject('/orders/7')
  await app.inject('/orders/8')
  const report = await app.observability.flush(100)
  t.same(report, { complete: false, lines: NOTHING, spans: { pending: 2, dropped: 0 } })
})

test('says what was dropped meanwhile', async (t) => {
  const { app } = await service(t, { answer: () => ({ code: 3 }) })
  await app.inject('/orders/7')
  const report = await app.observability.flush(PATIENCE_MS)
  t.same(report, { complete: false, lines: NOTHING, spans: { pending: 0, dropped: 1 } })
})

test('never rejects, whatever a part does', async (t) => {
  const { app } = await service(t)
  const dropped = (): number => 0
  registryOf(app).onFlush({ signal: 'points', flush: () => Promise.reject(new Error('broken')), dropped })
  registryOf(app).onFlush({ signal: 'points', flush: () => new Promise(() => undefined), dropped, held: () => 7 })
  const { complete, points } = await app.observability.flush(50)
  t.same([complete, points], [false, { pending: 8, dropped: 0 }])
  t.match(await app.observability.flush(Number.NaN), { points: { pending: 8 } })
})

test('takes NaN and negative times for 0, without a warning of Node', async (t) => {
  const warnings: Error[] = []
  const warned = (warning: Error): void => void warnings.push(warning)
  process.on('warning', warned)
  const { app } = await service(t)
  for (const timeoutMs of [Number.NaN, -1, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]) {
    t.equal((await app.observability.flush(timeoutMs)).complete, true)
  }
  await new Promise(setImmediate)
  process.off('warning', warned)
  t.same(warnings, [])
})

test('has nothing to say of parts that are off', async (t) => {
  const { app } = await service(t, {}, { logging: false, tracing: false, metrics: false })
  await app.inject('/orders/7')
  t.same(await app.observability.flush(Number.POSITIVE_INFINITY), { complete: true })
})
