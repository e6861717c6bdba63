import { inspect } from 'node:util'
import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability, {
  currentObservation,
  type Job,
  type JobOrigin,
  logger,
  type ObservabilityOptions,
  observe
} from '../src/index.ts'
import { start, startReceivers } from './process.ts'

/** An app whose signals are at hand. */
async function observed(t: Test, options: ObservabilityOptions = {}) {
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  const texts: string[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, {
    logging: { stream: { write: (line) => void texts.push(line) } },
    tracing: { endpoint: collector.url },
    sentry: { dsn: ingest.dsn },
    ...options
  })
  const lines = () => texts.map((line) => JSON.parse(line))
  const metrics = async () => (await app.inject('/metrics')).body
  const jobLines = () => lines().filter(({ msg }) => msg.startsWith('job '))
  return { app, collector, ingest, lines, jobLines, metrics }
}

type Observed = Awaited<ReturnType<typeof observed>>

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
