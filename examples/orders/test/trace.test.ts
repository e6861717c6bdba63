import { type Backend, type StoredSpan, startBackend } from '@fastify-observability/testing/backend'
import { freePorts } from '@fastify-observability/testing/ports'
import { test } from 'tap'
import { startService } from '../../demo/service.ts'

// Without a PostgreSQL of the machine, orders brings its own, which takes seconds to start.
const { TEST_COLLECTOR, TEST_JAEGER, TEST_DATABASE_URL, NODE_OPTIONS = '' } = process.env
const DATABASE = TEST_DATABASE_URL ? new URL(TEST_DATABASE_URL).pathname.slice(1) : 'postgres'
const NO_BACKEND =
  (!TEST_COLLECTOR && 'TEST_COLLECTOR names no OpenTelemetry Collector') ||
  (!TEST_JAEGER && 'TEST_JAEGER names no Jaeger')

async function startServices({ url }: Backend) {
  const [ordersPort = 0, paymentsPort = 0] = await freePorts(2)
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_BSP_SCHEDULE_DELAY: '100',
    LOG_FORMAT: 'json',
    NODE_OPTIONS: `${NODE_OPTIONS} --import=${import.meta.resolve('fastify-observability/register')}`
  }
  const payments = startService('payments', new URL('../../payments/server.ts', import.meta.url), paymentsPort, env)
  const orders = startService('orders', new URL('../server.ts', import.meta.url), ordersPort, {
    ...env,
    PAYMENTS_URL: payments.url,
    ...(TEST_DATABASE_URL && { DATABASE_URL: TEST_DATABASE_URL })
  })
  const failed = Promise.race([orders.failed, payments.failed])
  await Promise.race([Promise.all([orders.ready(), payments.ready()]), failed])
  return { orders, payments }
}

/** The spans below a parent, each with its own below it. */
function tree(spans: StoredSpan[], parent = '', indent = ''): string[] {
  return spans
    .filter(({ parentSpanId }) => parentSpanId === parent)
    .flatMap(({ service, kind, name, spanId }) => [
      `${indent}${service} ${kind} ${name}`,
      ...tree(spans, spanId, `${indent}  `)
    ])
}

test('keeps one order as one trace in Jaeger: both services and the database', { skip: NO_BACKEND }, async (t) => {
  const backend = await startBackend({ collector: String(TEST_COLLECTOR), jaeger: String(TEST_JAEGER) })
  t.teardown(() => backend.close())
  const { orders, payments } = await startServices(backend)
  t.teardown(() => Promise.all([orders.stop(), payments.stop()]))
  const body = JSON.stringify({ customer: 'ada', amount: 4200 })
  const headers = { 'content-type': 'application/json' }
  t.equal((await fetch(`${orders.url}/orders`, { method: 'POST', headers, body })).status, 201)

  const { trace_id = '' } = await orders.line(({ msg, path }) => msg === 'request completed' && path === '/orders')
  const expected = [
    'orders SERVER POST /orders',
    '  orders INTERNAL process_order',
    '    orders INTERNAL validate',
    '    orders INTERNAL charge',
    '      orders CLIENT POST',
    '        payments SERVER POST /charges',
    '    orders CLIENT pg-pool.connect',
    `    orders CLIENT pg.query:INSERT ${DATABASE}`
  ]
  t.same(await Promise.all([orders.stop(), payments.stop()]), [true, true], 'which sends what they still have')
  const spans = await backend.trace(trace_id, expected.length)
  t.same(tree(spans), expected)
  t.equal(spans.length, expected.length, 'and no span outside it')
  t.equal(await backend.close(), true)
})
