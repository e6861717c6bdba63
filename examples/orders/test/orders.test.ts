import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { buildApp as buildPayments } from '@fastify-observability/example-payments'
import type { FastifyInstance } from 'fastify'
import tap, { test } from 'tap'
import { buildApp } from '../app.ts'
import { startEmbeddedPostgres } from '../database.ts'
import { readSettings } from '../settings.ts'

// PGlite takes seconds to start on a busy machine.
process.env.LOG_LEVEL = 'silent'

const SERVER = fileURLToPath(new URL('../server.ts', import.meta.url))
// Nothing listens on port 1.
const NOWHERE = '127.0.0.1:1'

const postgres = await startEmbeddedPostgres()
const payments = await buildPayments()
const charged: { orderId: string; traceparent: unknown }[] = []
payments.addHook<{ Body: { orderId: string } }>('preHandler', async ({ body, headers }) => {
  charged.push({ orderId: body.orderId, traceparent: headers.traceparent })
})
const paymentsUrl = await payments.listen({ port: 0, host: '127.0.0.1' })
const app = await buildApp({ databaseUrl: postgres.url, paymentsUrl })
const url = await app.listen({ port: 0, host: '127.0.0.1' })
tap.teardown(async () => {
  await app.close()
  await payments.close()
  await postgres.close()
})

async function ask(method: string, path: string, body?: object) {
  const response = await fetch(url + path, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

test('charges an order, stores it and gives it back', async (t) => {
  const placed = await ask('POST', '/orders', { customer: 'ada', amount: 4200 })
  t.equal(placed.status, 201)
  const order = JSON.parse(placed.text)
  t.match(order, { customer: 'ada', amount: 4200, createdAt: /^\d{4}-/ })
  t.equal(charged.at(-1)?.orderId, order.id)
  const read = await ask('GET', placed.headers.get('location') ?? '')
  t.equal(read.status, 200)
  t.same(JSON.parse(read.text), order)
})

test("carries the caller's trace on to payments", async (t) => {
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
  const traceparent = `00-${traceId}-00f067aa0ba902b7-01`
  // Not by fetch, which is instrumented here and would start a trace of its own.
  await app.inject({ method: 'POST', url: '/orders', headers: { traceparent }, body: { customer: 'ada', amount: 1 } })
  t.match(charged.at(-1)?.traceparent, new RegExp(`^00-${traceId}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`))
})

test('answers 404 for an order that is not there', async (t) => {
  const { status, text } = await ask('GET', '/orders/unknown')
  t.equal(status, 404)
  t.same(JSON.parse(text), { statusCode: 404, error: 'Not Found', message: 'there is no order unknown' })
})

test('answers 402 when payments declines the charge, and stores nothing', async (t) => {
  const { status } = await ask('POST', '/orders', { customer: 'declined', amount: 100_001 })
  t.equal(status, 402)
  t.notMatch((await ask('GET', '/orders/export')).text, 'declined')
})

test('answers 502 when payments does not answer', async (t) => {
  const alone = await buildApp({ databaseUrl: postgres.url, paymentsUrl: `http://${NOWHERE}` })
  const answer = await alone.inject({ method: 'POST', url: '/orders', body: { customer: 'ada', amount: 1 } })
  t.equal(answer.statusCode, 502)
  await alone.close()
})

test('refuses an order without a customer', async (t) => {
  t.equal((await ask('POST', '/orders', { amount: 1 })).status, 400)
  t.equal((await ask('POST', '/orders', { customer: ' ', amount: 1 })).status, 422)
})

test('streams every order as a line of JSON', async (t) => {
  const placed = await ask('POST', '/orders', { customer: 'grace', amount: 7 })
  const { headers, text } = await ask('GET', '/orders/export')
  t.equal(headers.get('content-type'), 'application/x-ndjson')
  const orders = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.strictSame(
    orders.find(({ customer }) => customer === 'grace'),
    JSON.parse(placed.text)
  )
})

test('answers /boom with 500 and /slow after the time asked for', async (t) => {
  t.equal((await ask('GET', '/boom')).status, 500)
  t.same(JSON.parse((await ask('GET', '/slow?ms=1')).text), { waited_ms: 1 })
  t.equal((await ask('GET', '/slow?ms=30001')).status, 400)
})

test('counts signups by role, sessions in use and orders processed', async (t) => {
  const measured = await buildApp({ databaseUrl: postgres.url, paymentsUrl })
  const post = (url: string, body: object) => measured.inject({ method: 'POST', url, body })
  await post('/signups', { role: 'buyer' })
  const { session } = (await post('/signups', { role: 'buyer' })).json()
  await post('/signups', { role: 'seller' })
  await measured.inject({ method: 'DELETE', url: `/sessions/${session}` })
  await post('/orders', { customer: 'ada', amount: 1 })
  const series = (await measured.inject('/metrics')).body.split('\n').filter((line) => /^app_(?!.*_sum)/.test(line))
  t.same(series.slice(0, 3), [
    'app_user_signups_total{role="buyer"} 2',
    'app_user_signups_total{role="seller"} 1',
    'app_active_sessions 2'
  ])
  t.same(
    series.slice(3).map((line) => line.replace(/ \d+$/, '')),
    [
      ...['0.1', '0.5', '1', '2', '5', '10', '+Inf'].map((le) => `app_order_processing_seconds_bucket{le="${le}"}`),
      'app_order_processing_seconds_count'
    ]
  )
  t.equal(series.at(-1), 'app_order_processing_seconds_count 1')
  await measured.close()
})

test('refuses a role that would be a label of its own, and a session that is not there', async (t) => {
  t.equal((await ask('POST', '/signups', { role: 'x'.repeat(40) })).status, 400)
  t.equal((await ask('DELETE', '/sessions/unknown')).status, 404)
})

/** The answer of the readiness probe, once it is this: a client that is still connecting has failed its check. */
async function answerOnce(app: FastifyInstance, status: 'ready' | 'degraded') {
  for (;;) {
    const answer = await app.inject('/health/ready')
    if (answer.json().status === status) return answer
  }
}

/** Another way to the database, which can be closed: a second embedded one takes seconds. */
async function wayToPostgres() {
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const database = connect(Number(new URL(postgres.url).port), '127.0.0.1')
    for (const socket of [client, database]) open.add(socket.on('error', () => undefined))
    client.pipe(database).pipe(client)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = new URL(postgres.url)
  url.host = `127.0.0.1:${Object(server.address()).port}`
  async function close(): Promise<void> {
    server.close()
    for (const socket of open) socket.destroy()
    await once(server, 'close')
  }
  return { url: url.href, close }
}

test('is ready while the database answers, and not when it is gone', async (t) => {
  const own = await wayToPostgres()
  const bereft = await buildApp({ databaseUrl: own.url, paymentsUrl })
  const ready = await answerOnce(bereft, 'ready')
  t.equal(ready.statusCode, 200)
  t.same(ready.json(), { status: 'ready', checks: { database: 'ok' } })
  await own.close()
  let gone = await bereft.inject('/health/ready')
  // An answer is good for a second.
  while (gone.statusCode === 200) gone = await bereft.inject('/health/ready')
  t.equal(gone.statusCode, 503)
  t.same(gone.json(), { status: 'not_ready', checks: { database: 'failed' } })
  t.equal((await bereft.inject('/health')).statusCode, 200)
  await bereft.close()
})

test('serves orders without its cache, and says so', async (t) => {
  const uncached = await buildApp({ databaseUrl: postgres.url, paymentsUrl, redisUrl: `redis://${NOWHERE}` })
  const body = { customer: 'ada', amount: 1 }
  const { id } = (await uncached.inject({ method: 'POST', url: '/orders', body })).json()
  t.equal((await uncached.inject(`/orders/${id}`)).statusCode, 200)
  const ready = await answerOnce(uncached, 'degraded')
  t.equal(ready.statusCode, 200)
  t.same(ready.json(), { status: 'degraded', checks: { database: 'ok', redis: 'failed' } })
  await uncached.close()
})

const REFUSED: [string, string, string][] = [
  ['PORT', 'http', 'PORT must be a whole number from 0 to 65535, got "http": set PORT=8000.'],
  ['PORT', '65536', 'PORT must be a whole number from 0 to 65535, got "65536": set PORT=8000.'],
  [
    'SHUTDOWN_DELAY_MS',
    'soon',
    'SHUTDOWN_DELAY_MS must be a number from 0 to 60000, got "soon": set SHUTDOWN_DELAY_MS=5000.'
  ],
  [
    'DATABASE_URL',
    'mysql://me:secret@db/orders',
    'DATABASE_URL must be a URL that begins with postgres:// or postgresql://, got "mysql://me:***@db/orders": ' +
      'set DATABASE_URL=postgres://user:password@127.0.0.1:5432/orders, or unset it for an embedded PostgreSQL.'
  ],
  [
    'REDIS_URL',
    'cache:6379',
    'REDIS_URL must be a URL that begins with redis:// or rediss://, got "cache:6379": ' +
      'set REDIS_URL=redis://127.0.0.1:6379, or unset it to go without a cache.'
  ],
  [
    'PAYMENTS_URL',
    'payments',
    'PAYMENTS_URL must be a URL that begins with http:// or https://, got "payments": ' +
      'set PAYMENTS_URL=http://127.0.0.1:8001.'
  ]
]
for (const [name, value, message] of REFUSED) {
  test(`refuses ${name}=${value} in one sentence`, async (t) => {
    t.throws(() => readSettings({ [name]: value }), { name: 'SettingError', message })
  })
}

test('takes an empty variable for an unset one', async (t) => {
  t.same(readSettings({ PORT: '', DATABASE_URL: '' }), readSettings({}))
})

test('refuses a database that does not answer, without its password', async (t) => {
  await t.rejects(buildApp({ databaseUrl: `postgres://me:se:cr@et@${NOWHERE}/orders` }), {
    name: 'SettingError',
    message:
      `DATABASE_URL has no usable PostgreSQL at "postgres://me:***@${NOWHERE}/orders" (connect ECONNREFUSED ${NOWHERE}): ` +
      'start it, set another one, or unset DATABASE_URL for an embedded PostgreSQL.'
  })
})

test('ends with one sentence and code 1 on a bad PORT', async (t) => {
  const server = spawn(process.execPath, [SERVER], { env: { ...process.env, PORT: 'http' } })
  const [said, [code]] = await Promise.all([text(server.stderr), once(server, 'exit')])
  t.equal(said, 'PORT must be a whole number from 0 to 65535, got "http": set PORT=8000.\n')
  t.equal(code, 1)
})

test('ends with one sentence and code 1 on a port in use', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const address = taken.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const env = { ...process.env, PORT: String(port), DATABASE_URL: postgres.url }
  const server = spawn(process.execPath, [SERVER], { env })
  const [said, [code]] = await Promise.all([text(server.stderr), once(server, 'exit')])
  t.equal(said, `Port ${port} is already in use: stop what listens there, or set another one, such as PORT=8080.\n`)
  t.equal(code, 1)
  taken.close()
})

const { TEST_DATABASE_URL, TEST_REDIS_URL } = process.env
const NO_POSTGRES = !TEST_DATABASE_URL && 'TEST_DATABASE_URL names no PostgreSQL'
const NO_REDIS = !TEST_REDIS_URL && 'TEST_REDIS_URL names no Redis'

test('keeps its orders in the PostgreSQL that DATABASE_URL names', { skip: NO_POSTGRES }, async (t) => {
  const order = { customer: 'ada', amount: 4200 }
  const first = await buildApp({ databaseUrl: TEST_DATABASE_URL, paymentsUrl })
  const placed = await first.inject({ method: 'POST', url: '/orders', body: order })
  await first.close()
  const second = await buildApp({ databaseUrl: TEST_DATABASE_URL, paymentsUrl })
  t.same((await answerOnce(second, 'ready')).json(), { status: 'ready', checks: { database: 'ok' } })
  const read = await second.inject(`/orders/${placed.json().id}`)
  await second.close()
  t.same(read.json(), placed.json())
  t.match(read.json(), order)
})

test('answers from the Redis that REDIS_URL names, and checks it', { skip: NO_REDIS }, async (t) => {
  const own = await wayToPostgres()
  const cached = await buildApp({ databaseUrl: own.url, redisUrl: TEST_REDIS_URL, paymentsUrl })
  const { id } = (await cached.inject({ method: 'POST', url: '/orders', body: { customer: 'ada', amount: 1 } })).json()
  t.same((await answerOnce(cached, 'ready')).json().checks, { database: 'ok', redis: 'ok' })
  t.equal((await cached.inject(`/orders/${id}`)).statusCode, 200)
  await own.close()
  t.equal((await cached.inject(`/orders/${id}`)).json().id, id, 'without the database')
  t.equal((await cached.inject('/orders/unknown')).statusCode, 500, 'which it has not just forgotten to ask')
  await cached.close()
})
