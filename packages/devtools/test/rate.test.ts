import { performance } from 'node:perf_hooks'
import { registryOf } from '@fastify-observability/observation/internal'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { FastifyInstance } from 'fastify'
import { test } from 'tap'
import { tokenBucket } from '../src/token-bucket.ts'
import { ask, floodJobs, startService } from './service.ts'

// More at once than are recorded.
const FLOOD = 1_200
// So many that some come too fast on a machine that takes seconds for them, too.
const LONG_FLOOD = 3_000

async function flood(app: FastifyInstance, url: string, length = FLOOD): Promise<void> {
  await Promise.all(Array.from({ length }, () => app.inject(url)))
}

test('a bucket lets its burst through, and then what is refilled', (t) => {
  const take = tokenBucket({ burst: 3, perSecond: 10 })
  t.same([0, 0, 0, 0, 99, 100, 100, 50, 199, 200].map(take), [
    ...[true, true, true, false, false, true, false, false, false, true]
  ])
  t.same([9_000, 9_000, 9_000, 9_000].map(take), [true, true, true, false])
  t.end()
})

test('records 500 requests at once and counts those that come too fast', async (t) => {
  const { app, written } = await startService(t)
  await app.ready()
  await flood(app, '/ok')
  const { requests, unrecorded } = await ask(app, 'requests')
  t.equal(requests.length, 500)
  t.ok(unrecorded > 0 && unrecorded <= FLOOD - 500, `${unrecorded}`)
  t.equal(written.filter(({ msg }) => msg === 'request completed').length, FLOOD, 'all lines are written')
})

test('records 10 a second beyond those while nobody looks', async (t) => {
  const { app } = await startService(t)
  await app.ready()
  const startedAt = performance.now()
  await flood(app, '/ok')
  const { unrecorded } = await ask(app, 'requests')
  const most = 500 + Math.ceil((performance.now() - startedAt) / 100)
  t.ok(unrecorded >= FLOOD - most, `${FLOOD - unrecorded} recorded, of at most ${most}`)
})

test('records all that nobody could miss as soon as somebody looks', async (t) => {
  const { app } = await startService(t)
  await app.ready()
  await flood(app, '/ok')
  const { unrecorded } = await ask(app, 'requests')
  await flood(app, '/ok', 400)
  t.equal((await ask(app, 'requests')).unrecorded, unrecorded)
})

test('of failed requests that come too fast the end is recorded, of 100 at once', async (t) => {
  const { app } = await startService(t)
  app.get('/failing', async (request) => {
    request.log.debug('lost')
    request.observation.add({ plan: 'pro' })
    throw new Error('boom')
  })
  await app.ready()
  await flood(app, '/failing', LONG_FLOOD)
  const { requests, unrecorded } = await ask(app, 'requests')
  t.ok(unrecorded > 0 && unrecorded <= LONG_FLOOD - 600, `${unrecorded}`)
  const stories = await Promise.all(requests.map(({ id }: { id: string }) => ask(app, `requests/${id}`)))
  const cut = stories.filter(({ isCut }) => isCut)
  t.ok(cut.length >= 100, `${cut.length}`)
  t.match(cut[0], {
    ...{ route: '/failing', status: 500, error: 'Error: boom', fields: { plan: 'pro' }, lines: [], spans: [] },
    ...{ errors: [{ message: 'boom' }], requestId: String, traceId: String }
  })
})

test('jobs that come too fast are counted too, and the end of a failed one is recorded', async (t) => {
  const { app } = await startService(t)
  await app.ready()
  await flood(app, '/ok')
  const { unrecorded: before } = await ask(app, 'requests')
  await floodJobs(app)
  await t.rejects(registryOf(app).jobs.observe('bill', () => Promise.reject(new Error('no money'))))
  const { requests, unrecorded } = await ask(app, 'requests?route=bill')
  t.ok(unrecorded > before)
  t.match(requests, [{ route: 'bill', status: 'failed' }])
})

test('a tool receives how many came too fast', async (t) => {
  const { app } = await startService(t)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const client = new Client({ name: 'test', version: '1.0.0' })
  t.teardown(() => client.close())
  await client.connect(new StreamableHTTPClientTransport(new URL(`${address}/_observability/mcp`)))
  await floodJobs(app)
  const { content } = await client.callTool({ name: 'list_requests', arguments: {} })
  t.match(content, [{}, { text: /^\d+ requests or jobs came too fast to be recorded$/ }])
})
