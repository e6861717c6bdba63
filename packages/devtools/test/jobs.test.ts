import { registryOf } from '@fastify-observability/observation/internal'
import { type SpanContext, trace } from '@opentelemetry/api'
import { test } from 'tap'
import { ask, startService } from './service.ts'

test('lists jobs among the requests, with attempt and outcome', async (t) => {
  const { app } = await startService(t)
  await app.ready()
  const { observe } = registryOf(app).jobs
  await observe('import-orders', { attempt: 2, attempts: 3 }, async () => undefined)
  await t.rejects(observe('bill', () => Promise.reject(new Error('no money'))))
  const { requests } = await ask(app, 'requests')
  t.match(requests, [
    { method: 'JOB', route: 'bill', status: 'failed', error: 'Error: no money', durationMs: Number },
    { method: 'JOB', route: 'import-orders', status: 'completed', attempt: 2, attempts: 3 }
  ])
})

test('filters jobs by name, outcome and text', async (t) => {
  const { app } = await startService(t)
  await app.inject('/ok')
  const { observe } = registryOf(app).jobs
  await observe('import-orders', async () => undefined)
  await t.rejects(observe('bill', () => Promise.reject(new Error('no money'))))
  for (const filter of ['route=bill', 'status=failed', 'text=NO%20money']) {
    const { requests } = await ask(app, `requests?${filter}`)
    t.match(requests, [{ route: 'bill' }], filter)
    t.equal(requests.length, 1, filter)
  }
  t.equal((await ask(app, 'requests?text=job')).requests.length, 2)
})

test('tells the story of a failed job: spans, lines, error, fields', async (t) => {
  const { app, written } = await startService(t)
  await app.ready()
  const failing = registryOf(app).jobs.observe('bill', { attributes: { plan: 'pro' } }, async (job) => {
    trace.getTracer('t').startActiveSpan('charge', (span) => span.end())
    job.add({ amount: 7 })
    app.log.debug('charging')
    throw new Error('no money', { cause: new Error('card refused') })
  })
  await t.rejects(failing)
  const story = await ask(app, 'requests/1')
  t.match(story, {
    spans: [{ name: 'bill' }, { name: 'charge' }],
    fields: { plan: 'pro', amount: 7 },
    errors: [{ message: 'no money' }, { message: 'card refused' }],
    lines: [
      { message: 'charging', isWritten: false },
      { level: 'error', message: 'job failed', isWritten: true }
    ],
    headers: {},
    traceId: written.at(-1)?.trace_id
  })
})

for (const [how, isNested] of [
  ['enqueued', false],
  ['run within itself', true]
] as const) {
  test(`a request and the job that it has ${how} link to each other`, async (t) => {
    const { app } = await startService(t)
    const { observe } = registryOf(app).jobs
    const queue: SpanContext[] = []
    app.get('/enqueue', async ({ observation }) => {
      if (isNested) await observe('mail', async () => undefined)
      else queue.push(JSON.parse(JSON.stringify(observation.spanContext)))
    })
    await app.inject('/enqueue')
    if (!isNested) await observe('mail', { links: queue }, async () => undefined)
    t.match(await ask(app, 'requests/1'), { jobs: [{ id: '2', route: 'mail', status: 'completed' }], causes: [] })
    t.match(await ask(app, 'requests/2'), { causes: [{ id: '1', path: '/enqueue' }], jobs: [] })
  })
}

test('a job whose cause is unknown or nonsense has none', async (t) => {
  const { app } = await startService(t)
  await app.ready()
  const links = JSON.parse('["nonsense",{"spanId":7},"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]')
  await registryOf(app).jobs.observe('mail', { links }, async () => undefined)
  t.match(await ask(app, 'requests/1'), { causes: [], status: 'completed' })
})
