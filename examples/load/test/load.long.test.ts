import { buildApp as buildOrders } from '@fastify-observability/example-orders'
import { buildApp as buildPayments } from '@fastify-observability/example-payments'
import tap, { test } from 'tap'
import { sendLoad, sendOneOfEach, type Tally } from '../load.ts'

// Orders brings a PostgreSQL of its own, which takes seconds to start.
process.env.LOG_LEVEL = 'silent'

const payments = await buildPayments()
const paymentsUrl = await payments.listen({ port: 0, host: '127.0.0.1' })
const orders = await buildOrders({ paymentsUrl })
const url = await orders.listen({ port: 0, host: '127.0.0.1' })
tap.teardown(async () => {
  // Node takes a connection on which nothing was asked yet for a busy one.
  orders.server.closeAllConnections()
  await orders.close()
  await payments.close()
})

test('sends requests that succeed, are refused, fail, are slow and are abandoned', async (t) => {
  const { signal } = new AbortController()
  t.same(await sendOneOfEach({ url, signal }), { 201: 2, 200: 4, 404: 2, 400: 1, 402: 1, 500: 1, aborted: 1 })
})

test('sends them until it is stopped, and reports what became of them', async (t) => {
  const stop = new AbortController()
  const said = Promise.withResolvers<Tally>()
  // On a busy machine there is no answer yet in the first reports.
  const report = (tally: Tally): void => void (tally['201'] && said.resolve(tally))
  const load = sendLoad(200, { url, signal: stop.signal }, report, 500)
  t.match(await said.promise, { 201: Number })
  stop.abort()
  await load
})

test('goes on when nobody answers', async (t) => {
  const stop = new AbortController()
  const said = Promise.withResolvers<Tally>()
  const report = (tally: Tally): void => void (tally.failed && said.resolve(tally))
  const load = sendLoad(200, { url: 'http://127.0.0.1:1', signal: stop.signal }, report, 500)
  t.match(await said.promise, { failed: Number })
  stop.abort()
  await load
})

test('stops at once when it is stopped before it has begun', async (t) => {
  const stop = new AbortController()
  stop.abort()
  await sendLoad(1, { url, signal: stop.signal }, () => t.fail('it has nothing to say'))
  t.equal(stop.signal.aborted, true)
})
