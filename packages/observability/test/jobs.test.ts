import { inspect } from 'node:util'
import logging from '@fastify-observability/logging'
import { startCollector } from '@fastify-observability/testing/collector'
import tracing from '@fastify-observability/tracing'
import Fastify from 'fastify'
import { test } from 'tap'
import { currentObservation, type Job, type JobOrigin, logger, observe } from '../src/index.ts'
import { type Observed, observed } from './observed.ts'
import { start, startReceivers } from './process.ts'

/** A request enqueues a job, which fails so many times of at most three. */
async function enqueue({ app }: Observed, failures: number): Promise<void> {
  const queue: (JobOrigin | undefined)[] = []
  app.post('/orders', async () => void queue.push(JSON.parse(JSON.stringify(currentObservation()?.spanContext))))
  await app.inject({ method: 'POST', url: '/orders' })
  for (let attempt = 1; attempt <= Math.min(failures + 1, 3); attempt++) {
    await observe('import-orders', { links: queue, attempt, attempts: 3 }, async () => {
      if (attempt <= failures) throw new Error(`failure ${attempt}`)
    }).catch(() => undefined)
  }
}

test('a job that fails twice and succeeds is three linked spans, three lines and no event', async (t) => {
  const all = await observed(t)
  await enqueue(all, 2)
  const metrics = await all.metrics()
  await all.app.close()
  const request = all.collector.spans.find(({ kind }) => kind === 'SERVER')
  const spans = all.collector.spans.filter(({ name }) => name === 'import-orders')
  t.match(
    spans.map(({ kind, links }) => [kind, links.map(({ traceId }) => traceId)]),
    Array(3).fill(['CONSUMER', [request?.traceId]])
  )
  t.equal(new Set(spans.map(({ traceId }) => traceId)).size, 3)
  t.match(all.jobLines(), [
    { level: 'warn', msg: 'job failed', job: 'import-orders', attempt: 1, err: { message: 'failure 1' } },
    { level: 'warn', msg: 'job failed', attempt: 2, trace_id: spans[1]?.traceId },
    { level: 'info', msg: 'job completed', attempt: 3, duration_ms: Number }
  ])
  t.match(metrics, /job_duration_seconds_count\{job="import-orders",outcome="failed"\} 2/)
  t.match(metrics, /job_duration_seconds_count\{job="import-orders",outcome="completed"\} 1/)
  t.same(all.ingest.events, [])
})

test('a job that fails for good is one event, with the ids of its last line', async (t) => {
  const all = await observed(t)
  await enqueue(all, 3)
  await all.app.close()
  const last = all.jobLines().at(-1)
  t.match(last, { level: 'error', msg: 'job failed', attempt: 3 })
  t.equal(all.ingest.events.length, 1)
  t.match(all.ingest.events[0], {
    event_id: last.sentry_event_id,
    transaction: 'import-orders',
    tags: { job: 'import-orders', request_id: last.request_id },
    contexts: { trace: { trace_id: last.trace_id } }
  })
})

test('the event of a job has the lines of the job as breadcrumbs, and none of what it runs in', async (t) => {
  const { app, ingest } = await observed(t)
  app.get('/', async ({ log }) => {
    log.info('of the request')
    const failing = () => {
      logger().warn({ token: 'hunter2' }, 'of the job')
      throw new Error('boom')
    }
    return observe('import', failing).catch(() => 'caught')
  })
  await app.inject('/')
  await app.close()
  t.equal(ingest.events.length, 1)
  t.match(ingest.events[0]?.breadcrumbs, [{ category: 'log', level: 'warning', message: 'of the job' }])
})

test('lines and calls below a job carry its ids, and its fields are in line and span', async (t) => {
  const { app, lines, jobLines, collector } = await observed(t)
  const called = await observed(t, { tracing: false, sentry: false })
  called.app.get('/', async ({ headers }) => headers)
  const url = await called.app.listen({ port: 0, host: '127.0.0.1' })
  const headers = await app.observability.observe('sync', { attributes: { source: 'ftp' } }, async () => {
    await null
    currentObservation()?.add({ rows: 7 })
    logger().info('below')
    return Object(await (await fetch(url)).json())
  })
  await app.close()
  const [line] = jobLines()
  const span = collector.spans.find(({ name }) => name === 'sync')
  t.match(line, { source: 'ftp', rows: 7, trace_id: span?.traceId, span_id: span?.spanId, request_id: String })
  t.match(span, { kind: 'INTERNAL', attributes: { source: 'ftp', rows: 7, 'request.id': line.request_id } })
  t.match(headers, { 'x-request-id': line.request_id, 'x-correlation-id': line.correlation_id })
  t.match(headers.traceparent, line.trace_id)
  t.equal(lines().find(({ msg }) => msg === 'below').request_id, line.request_id)
})

test('a job in a request, and one in a job, are children of its trace and keep its correlation id', async (t) => {
  const { app, collector, jobLines } = await observed(t)
  app.get('/', async () => observe('outer', () => observe('inner', () => 'done')))
  t.equal((await app.inject({ url: '/', headers: { 'x-correlation-id': 'c-1' } })).body, 'done')
  await app.close()
  const [server, outer, inner] = ['GET /', 'outer', 'inner'].map((name) =>
    collector.spans.find((span) => span.name === name)
  )
  t.same([outer?.parentSpanId, inner?.parentSpanId], [server?.spanId, outer?.spanId])
  t.match(jobLines(), [
    { job: 'inner', correlation_id: 'c-1' },
    { job: 'outer', correlation_id: 'c-1' }
  ])
})

test('rejects with what the function throws at once', async (t) => {
  const { app, jobLines } = await observed(t)
  const error = new Error('at once')
  const thrower = () => {
    throw error
  }
  await t.rejects(app.observability.observe('thrower', thrower), error)
  t.match(jobLines(), [{ msg: 'job failed', err: { message: 'at once' } }])
})

test('an added field takes no name of the job itself', async (t) => {
  const { app, collector, jobLines, metrics } = await observed(t)
  const attributes = { job: 'mine', attempt: 7, 'job.name': 'mine', 'job.attempt': 7, source: 'ftp' }
  await app.observability.observe('sync', { attributes, attempt: 1 }, () => undefined)
  t.match(await metrics(), /observability_fields_dropped_total\{reason="reserved"\} 4/)
  await app.close()
  t.match(jobLines(), [{ job: 'sync', attempt: 1, source: 'ftp' }])
  const span = collector.spans.find(({ name }) => name === 'sync')
  t.match(span?.attributes, { 'job.name': 'sync', 'job.attempt': 1, source: 'ftp' })
  t.same([span?.attributes.job, span?.attributes.attempt], [undefined, undefined])
})

test('a job keeps its name and attempt under an allow-list', async (t) => {
  const texts: string[] = []
  const stream = { write: (line: string) => void texts.push(line) }
  const { app } = await observed(t, { logging: { allow: ['source'], stream } })
  const attributes = { source: 'ftp', host: 'internal' }
  await app.observability.observe('sync', { attributes, attempt: 2 }, () => undefined)
  const line = texts.map((text) => JSON.parse(text)).find(({ msg }) => msg === 'job completed')
  t.match(line, { job: 'sync', attempt: 2, duration_ms: Number, source: 'ftp', host: '[redacted]' })
})

test('an observer that fails after it has called next neither runs a job twice nor fails it', async (t) => {
  const { app, jobLines, metrics } = await observed(t)
  const fail = (_job: Job, next: () => void): void => {
    next()
    throw new Error('no')
  }
  app.observation.observe({ name: 'own', kind: 'job', run: fail, resume: fail })
  let runs = 0
  t.equal(await app.observability.observe('import', () => ++runs), 1)
  t.match(jobLines(), [{ msg: 'job completed' }])
  t.match(await metrics(), /observability_observer_errors_total\{observer="own"\} 2/)
})

for (const links of [null, 7, [null, 7, {}, 'none', Symbol('none')]]) {
  test(`runs a job whose links are ${inspect(links)}`, async (t) => {
    const { app, jobLines } = await observed(t)
    t.equal(await Reflect.apply(app.observability.observe, undefined, ['import', { links }, () => 'done']), 'done')
    t.match(jobLines(), [{ msg: 'job completed' }])
  })
}

test('each app observes its own jobs', async (t) => {
  const [one, other] = [await observed(t, { sentry: false }), await observed(t, { sentry: false })]
  await other.app.observability.observe('others', () => observe('below', () => undefined))
  await observe('first', () => undefined)
  t.match(one.jobLines(), [{ job: 'first' }])
  t.match(other.jobLines(), [{ job: 'below' }, { job: 'others' }])
})

test('without an app, or after its close, the function runs all the same', async (t) => {
  const { app } = await observed(t)
  await app.close()
  t.equal(await observe('late', (job) => job.job), 'late')
  t.equal(await app.observability.observe('late', async () => 1), 1)
})

for (const part of ['requestId', 'logging', 'tracing', 'metrics', 'health', 'sentry'] as const) {
  test(`runs jobs without ${part}`, async (t) => {
    const { app, jobLines } = await observed(t, { [part]: false })
    t.equal(await app.observability.observe('job', () => currentObservation()?.request ?? 'none'), 'none')
    t.equal(jobLines().length, part === 'logging' ? 0 : 1)
  })
}

test('setInterval: the job is no part of the request that has set it', async (t) => {
  const { app, collector } = await observed(t)
  const { promise, resolve } = Promise.withResolvers<void>()
  app.get('/', async () => {
    const timer = setInterval(() => void observe('tick', () => clearInterval(timer)).then(resolve), 50)
    return 'set'
  })
  await app.inject('/')
  await promise
  await app.close()
  t.match(
    collector.spans.find(({ name }) => name === 'tick'),
    { kind: 'INTERNAL', parentSpanId: '' }
  )
})

test('a job that outlasts the deadline of the shutdown has failed by it, without an event', async (t) => {
  const { app, ingest, lines, jobLines } = await observed(t, { health: { shutdown: { timeoutMs: 50, signals: [] } } })
  void app.observability.observe('hung', () => new Promise(() => undefined))
  await app.close()
  t.match(jobLines(), [{ level: 'error', msg: 'job failed', job: 'hung', err: { code: 'SHUTDOWN' } }])
  t.match(
    lines().find(({ msg }) => msg === 'closed; jobs were aborted'),
    { level: 'warn', jobs: ['hung'] }
  )
  t.same(ingest.events, [])
})

test('a job that closes its own app does not wait for itself', async (t) => {
  const { app, jobLines } = await observed(t)
  await app.observability.observe('closer', () => app.close())
  t.equal(jobLines().length, 1)
})

test('the duration of a job has its trace as an exemplar', async (t) => {
  const { app, jobLines } = await observed(t)
  await app.observability.observe('traced', () => undefined)
  const { body } = await app.inject({ url: '/metrics', headers: { accept: 'application/openmetrics-text' } })
  const buckets = body.split('\n').filter((line) => line.startsWith('job_duration_seconds_bucket'))
  t.match(buckets.join('\n'), `trace_id="${jobLines()[0].trace_id}"`)
})

test('SIGTERM amid a job: it ends, and everything is delivered', async (t) => {
  const { collector, env } = await startReceivers(t)
  const { child, line, lines, ended } = await start(t, env, 'job-service.ts')
  await line('working')
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  const messages = lines.map(({ msg }) => msg)
  t.match(messages.slice(-4), ['shutting down', 'worked', 'job completed', 'shutdown finished'])
  t.ok(collector.spans.some(({ name }) => name === 'import-orders'))
})

for (const first of ['logging', 'tracing'] as const) {
  test(`an app of single parts, ${first} first, waits for its jobs at its end and delivers what they leave`, async (t) => {
    const collector = await startCollector()
    t.teardown(() => collector.close())
    const texts: string[] = []
    const app = Fastify()
    const parts = {
      logging: () => app.register(logging, { stream: { write: (line) => void texts.push(line) } }),
      tracing: () => app.register(tracing, { endpoint: collector.url })
    }
    await parts[first]()
    await parts[first === 'logging' ? 'tracing' : 'logging']()
    const { promise, resolve } = Promise.withResolvers<void>()
    const job = observe('import', () => promise)
    const closed = app.close()
    setTimeout(resolve, 50)
    await Promise.all([job, closed])
    t.match(JSON.parse(texts.at(-1) ?? '{}'), { msg: 'job completed', job: 'import' })
    t.match(collector.spans, [{ name: 'import' }])
  })
}

test('a job has ended before the hooks of onClose, which close what it needs', async (t) => {
  const { app, jobLines } = await observed(t)
  const pool = { isOpen: true }
  app.addHook('onClose', async () => {
    pool.isOpen = false
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  const job = app.observability.observe('import', async () => {
    await promise
    return pool.isOpen
  })
  const closed = app.close()
  setTimeout(resolve, 50)
  t.equal(await job, true)
  await closed
  t.equal(jobLines().length, 1)
})

test('a job that begins while the app closes is waited for too', async (t) => {
  const { app, jobLines } = await observed(t)
  const { promise, resolve } = Promise.withResolvers<void>()
  app.addHook('onClose', async () => {
    void app.observability.observe('late', () => promise)
    setTimeout(resolve, 50)
  })
  await app.close()
  t.match(jobLines(), [{ job: 'late', msg: 'job completed' }])
})

test('a job within a job closes the app, and neither is waited for', async (t) => {
  const { app, jobLines } = await observed(t)
  await app.observability.observe('outer', () => observe('closer', () => app.close()))
  t.equal(jobLines().filter(({ msg }) => msg === 'job failed').length, 0)
})

test('a thousand jobs at once have ids and a trace of their own each', async (t) => {
  const { app, jobLines, metrics } = await observed(t)
  const jobs = Array.from({ length: 1_000 }, (_, index) =>
    app.observability.observe('import', async () => {
      await new Promise((resolve) => setImmediate(resolve))
      currentObservation()?.add({ index })
    })
  )
  await Promise.all(jobs)
  for (const name of ['index', 'request_id', 'trace_id'])
    t.equal(new Set(jobLines().map((line) => line[name])).size, 1_000)
  t.match(await metrics(), 'job_duration_seconds_count{job="import",outcome="completed"} 1000')
})

test('names of jobs are bounded in length and number', async (t) => {
  const { app, jobLines, metrics } = await observed(t)
  for (let index = 0; index < 600; index++) await app.observability.observe(`import-${index}`, () => undefined)
  t.match(await metrics(), /job_duration_seconds_count\{job="__overflow__",outcome="completed"\} 100/)
  await app.observability.observe('x'.repeat(1_000), () => undefined)
  for (const name of [undefined, 7, '', Symbol('x')])
    await Reflect.apply(app.observability.observe, undefined, [name, () => undefined])
  t.same(
    jobLines()
      .slice(600)
      .map(({ job }) => job),
    ['x'.repeat(128), ...Array(4).fill('unnamed')]
  )
})

test('a job keeps as many attributes as a request does fields', async (t) => {
  const { app, jobLines, metrics } = await observed(t)
  const attributes = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`field_${index}`, index]))
  await app.observability.observe('import', { attributes }, () => undefined)
  t.equal(Object.keys(jobLines()[0]).filter((name) => name.startsWith('field_')).length, 64)
  t.match(await metrics(), 'observability_fields_dropped_total{reason="too_many"} 9936')
})

for (const value of [0, -1, 1.5, Number.NaN, '2', null, {}]) {
  test(`runs a job whose attempt, attempts, parent, attributes and correlation id are ${inspect(value)}`, async (t) => {
    const { app, jobLines, ingest, collector } = await observed(t)
    const fail = () => Promise.reject(new Error('boom'))
    const options = { attempt: value, attempts: value, parent: value, attributes: value, correlationId: `${value}\n` }
    await t.rejects(Reflect.apply(app.observability.observe, undefined, ['import', options, fail]), /boom/)
    const [line] = jobLines()
    t.match(line, { level: 'error', msg: 'job failed', correlation_id: line.request_id })
    t.notOk('attempt' in line)
    await app.close()
    t.match(collector.spans, [{ name: 'import', kind: 'INTERNAL', parentSpanId: '' }])
    t.equal(ingest.events.length, 1)
  })
}

for (const options of [undefined, null, 7, []]) {
  test(`runs a job whose options are ${inspect(options)}`, async (t) => {
    const { app, jobLines } = await observed(t)
    for (const one of [observe, app.observability.observe])
      t.equal(await Reflect.apply(one, undefined, ['import', options, () => 'done']), 'done')
    t.equal(jobLines().length, 2)
  })
}

test('resolves with what a thenable gives, and rejects without a function', async (t) => {
  const { app, jobLines } = await observed(t)
  // biome-ignore lint/suspicious/noThenProperty: what query builders return.
  const query: PromiseLike<number> = { then: (...handlers) => Promise.resolve(7).then(...handlers) }
  t.equal(await app.observability.observe('query', () => query), 7)
  await t.rejects(Reflect.apply(app.observability.observe, undefined, ['nothing', {}]), TypeError)
  t.match(jobLines(), [
    { job: 'query', msg: 'job completed' },
    { job: 'nothing', msg: 'job failed' }
  ])
})

test('what a job has left behind begins jobs of the same app', async (t) => {
  const [one, other] = [await observed(t, { sentry: false }), await observed(t, { sentry: false })]
  const { promise, resolve } = Promise.withResolvers<void>()
  await other.app.observability.observe('first', () => void setTimeout(() => observe('second', () => resolve()), 20))
  await promise
  await other.app.close()
  t.same(one.jobLines(), [])
  t.match(other.jobLines(), [{ job: 'first' }, { job: 'second' }])
})
