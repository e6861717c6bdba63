import { buildApp as buildPayments } from '@fastify-observability/example-payments'
import { startCollector } from '@fastify-observability/testing/collector'
import { freePorts } from '@fastify-observability/testing/ports'
import { type Test, test } from 'tap'
import { startService } from '../../demo/service.ts'

const { TEST_REDIS_URL = '', TEST_DATABASE_URL } = process.env
const NO_REDIS = !TEST_REDIS_URL && 'TEST_REDIS_URL names no Redis'

/** What a new order that is read twice has asked of its databases, each with the request below which it stands. */
async function callsOf(t: Test, isPreloaded: boolean) {
  const [collector, payments, [port = 0]] = await Promise.all([startCollector(), buildPayments(), freePorts(1)])
  t.teardown(() => Promise.all([collector.close(), payments.close()]))
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    LOG_FORMAT: 'json',
    REDIS_URL: TEST_REDIS_URL,
    PAYMENTS_URL: await payments.listen(),
    ...(TEST_DATABASE_URL && { DATABASE_URL: TEST_DATABASE_URL })
  }
  const orders = startService('orders', new URL('../server.ts', import.meta.url), port, env, isPreloaded)
  t.teardown(() => orders.stop())
  await orders.ready()
  const body = JSON.stringify({ customer: 'ada', amount: 4200 })
  const headers = { 'content-type': 'application/json' }
  const { headers: answered } = await fetch(`${orders.url}/orders`, { method: 'POST', headers, body })
  for (let read = 0; read < 2; read++) await (await fetch(`${orders.url}${answered.get('location')}`)).text()
  t.equal(await orders.stop(), true)
  const counts = orders.lines.filter(({ route }) => route === '/orders/:id').map(({ db_calls }) => db_calls)
  const byId = new Map(collector.spans.map((span) => [span.spanId, span]))
  const calls = collector.spans
    .filter(({ name, parentSpanId }) => /^redis-[A-Z]|^pg\.query/.test(name) && parentSpanId)
    .map(({ name, parentSpanId }) => `${byId.get(parentSpanId)?.name}: ${name.split(' ')[0]}`)
  return { calls: calls.toSorted(), counts }
}

test('the cache has one span a command below its request, with the preload and without, which adds PostgreSQL', {
  skip: NO_REDIS
}, async (t) => {
  const cached = ['redis-GET', 'redis-GET', 'redis-SET'].map((name) => `GET /orders/:id: ${name}`)
  t.same(await callsOf(t, false), { calls: cached, counts: [2, 1] })
  t.same(await callsOf(t, true), {
    calls: ['GET /orders/:id: pg.query:SELECT', ...cached, 'process_order: pg.query:INSERT'],
    counts: [3, 1]
  })
})
