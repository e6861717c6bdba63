import { once } from 'node:events'
import {
  DelayedError,
  FlowProducer,
  type Job,
  type JobsOptions,
  Queue,
  type Telemetry,
  UnrecoverableError,
  Worker
} from 'bullmq'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import { bullmqTelemetry, currentObservation, type JobOrigin, logger, observe } from '../src/index.ts'
import { type Observed, observed } from './observed.ts'
import { start, startReceivers } from './process.ts'
import { NO_REDIS, startRedis } from './redis.ts'

type Processor = (job: Job<{ origin?: JobOrigin }>, token?: string) => Promise<unknown>

interface Way {
  name: string
  telemetry?: Telemetry
  data?: () => { origin?: JobOrigin | undefined }
  wrap: (processor: Processor) => Processor
}

const BY_TELEMETRY: Way = { name: 'telemetry', telemetry: bullmqTelemetry(), wrap: (processor) => processor }
const BY_OBSERVE: Way = {
  name: 'observe',
  data: () => ({ origin: currentObservation()?.spanContext }),
  wrap: (processor) => (job) => {
    const { name, queueName, data, attemptsMade, opts } = job
    const options = { links: [data.origin], attempt: attemptsMade + 1, attempts: opts.attempts }
    return observe(`${queueName}.${name}`, options, () => processor(job))
  }
}

/** A request enqueues a job, which a worker of the same app processes until it has ended. */
async function process(t: Test, { app }: Observed, way: Way, processor: Processor, options?: JobsOptions) {
  const connection = await startRedis(t)
  const { telemetry, data, wrap } = way
  const queue = new Queue('orders', { connection, ...(telemetry && { telemetry }) })
  const worker = new Worker('orders', wrap(processor), { connection, ...(telemetry && { telemetry }) })
  worker.on('failed', (_job, error) => currentObservation()?.fail(error))
  app.post('/orders', async () => (await queue.add('import', data?.() ?? {}, { attempts: 3, ...options })).id)
  const { promise: ended, resolve } = Promise.withResolvers<void>()
  worker.on('completed', () => resolve())
  worker.on('failed', (job) => job?.finishedOn && resolve())
  await app.inject({ method: 'POST', url: '/orders', headers: { 'x-correlation-id': 'c-1' } })
  await ended
  await Promise.all([worker.close(), queue.close()])
}

async function failTwice({ attemptsMade }: { attemptsMade: number }): Promise<void> {
  if (attemptsMade < 2) throw new Error('not yet')
}

for (const way of [BY_TELEMETRY, BY_OBSERVE]) {
  test(`by ${way.name}: a job that fails twice and succeeds is three linked spans and no event`, {
    skip: NO_REDIS
  }, async (t) => {
    const all = await observed(t)
    await process(t, all, way, failTwice)
    const metrics = await all.metrics()
    await all.app.close()
    const request = all.collector.spans.find(({ kind }) => kind === 'SERVER')
    const spans = all.collector.spans.filter(({ kind }) => kind === 'CONSUMER')
    t.same(
      spans.map(({ links }) => links.map(({ traceId }) => traceId)),
      Array(3).fill([request?.traceId])
    )
    t.match(metrics, /job_duration_seconds_count\{job="orders.import",outcome="failed"\} 2/)
    t.match(metrics, /job_duration_seconds_count\{job="orders.import",outcome="completed"\} 1/)
    t.match(all.jobLines(), [
      { level: 'warn', msg: 'job failed', job: 'orders.import', attempt: 1, err: { message: 'not yet' } },
      { level: 'warn', msg: 'job failed', attempt: 2, trace_id: spans[1]?.traceId },
      { level: 'info', msg: 'job completed', attempt: 3, trace_id: spans[2]?.traceId }
    ])
    t.same([all.jobLines().length, all.ingest.events], [3, []])
  })

  test(`by ${way.name}: a job that fails for good is one event, with its error whole`, {
    skip: NO_REDIS
  }, async (t) => {
    const all = await observed(t)
    await process(t, all, way, async () => {
      throw new TypeError('never')
    })
    await all.app.close()
    const last = all.jobLines().at(-1)
    t.match(last, { level: 'error', attempt: 3, err: { type: 'TypeError', stack: /bullmq\.test\.ts/ } })
    t.equal(all.ingest.events.length, 1)
    t.match(all.ingest.events[0], {
      event_id: last?.sentry_event_id,
      transaction: 'orders.import',
      tags: { job: 'orders.import', attempt: '3', request_id: last?.request_id },
      contexts: { trace: { trace_id: last?.trace_id } }
    })
  })

  test(`by ${way.name}: SIGTERM amid a job: it ends, and everything is delivered`, { skip: NO_REDIS }, async (t) => {
    const { port } = await startRedis(t)
    const { collector, env } = await startReceivers(t)
    const service = await start(t, { ...env, WAY: way.name, REDIS_PORT: String(port) }, 'bullmq-service.ts')
    await service.line('working')
    service.child.kill('SIGTERM')
    t.equal(await service.ended, 0)
    const messages = service.lines.map(({ msg }) => msg)
    t.match(messages.slice(-4), ['shutting down', 'worked', 'job completed', 'shutdown finished'])
    t.equal(collector.spans.filter(({ kind }) => kind === 'CONSUMER').length, 1)
  })
}

test('what is enqueued is a span of the messaging conventions, below its request', { skip: NO_REDIS }, async (t) => {
  const { collector, ...all } = await observed(t)
  await process(t, { collector, ...all }, BY_TELEMETRY, async () => undefined)
  await all.app.close()
  const [request, producer, ...others] = ['SERVER', 'PRODUCER', 'CONSUMER', 'INTERNAL'].map((kind) =>
    collector.spans.filter((span) => span.kind === kind)
  )
  t.match(producer, [
    {
      name: 'add orders',
      parentSpanId: request?.[0]?.spanId,
      attributes: {
        'messaging.system': 'bullmq',
        'messaging.operation.name': 'add',
        'messaging.operation.type': 'send',
        'messaging.destination.name': 'orders',
        'messaging.message.id': '1',
        'job.name': 'orders.import'
      }
    }
  ])
  t.same(
    others.map(({ length }) => length),
    [1, 0]
  )
})

test('what a worker processes is a span of the messaging conventions, linked to what has enqueued it', {
  skip: NO_REDIS
}, async (t) => {
  const all = await observed(t)
  await process(t, all, BY_TELEMETRY, async () => logger().info('below'))
  await all.app.close()
  const [producer, consumer] = ['PRODUCER', 'CONSUMER'].map((is) => all.collector.spans.find(({ kind }) => kind === is))
  t.match(consumer, {
    name: 'process orders',
    parentSpanId: '',
    links: [{ traceId: producer?.traceId, spanId: producer?.spanId }],
    attributes: {
      'messaging.system': 'bullmq',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'orders',
      'messaging.message.id': '1',
      'job.name': 'orders.import',
      'job.attempt': 1,
      'correlation.id': 'c-1'
    }
  })
  const [line] = all.jobLines()
  const ids = { request_id: line?.request_id, correlation_id: 'c-1', trace_id: consumer?.traceId }
  t.match(
    all.lines().find(({ msg }) => msg === 'below'),
    ids
  )
  t.match(line, { ...ids, 'messaging.destination.name': 'orders', 'messaging.message.id': '1' })
})

test('an error that BullMQ does not retry is the last failure, whatever the attempts', {
  skip: NO_REDIS
}, async (t) => {
  const all = await observed(t)
  await process(t, all, BY_TELEMETRY, async () => {
    throw new UnrecoverableError('no such order')
  })
  t.match(all.jobLines(), [
    { level: 'error', attempt: 1, err: { type: 'UnrecoverableError', message: 'no such order' } }
  ])
  await all.app.close()
  t.equal(all.ingest.events.length, 1)
})

test('a job that postpones itself has not failed', { skip: NO_REDIS }, async (t) => {
  const all = await observed(t)
  let runs = 0
  await process(t, all, BY_TELEMETRY, async (job, token) => {
    if (++runs > 1) return
    await job.moveToDelayed(Date.now() + 1, token)
    throw new DelayedError()
  })
  t.match(all.jobLines(), [{ msg: 'job completed' }, { msg: 'job completed', attempt: 1 }])
})

test('without a listener of its worker a failure has the message alone', { skip: NO_REDIS }, async (t) => {
  const connection = await startRedis(t)
  const { app, jobLines } = await observed(t)
  const telemetry = bullmqTelemetry(app)
  const queue = new Queue('orders', { connection, telemetry })
  const worker = new Worker('orders', async () => Promise.reject(new TypeError('no')), { connection, telemetry })
  const failed = once(worker, 'failed')
  await queue.add('import', {})
  await failed
  await Promise.all([worker.close(), queue.close()])
  t.match(jobLines(), [{ level: 'error', msg: 'job failed', attempt: 1, err: { type: 'Error', message: 'no' } }])
  t.equal(jobLines()[0]?.err.stack, 'Error: no')
})

test('the jobs of a flow are linked to the spans that have made them', { skip: NO_REDIS }, async (t) => {
  const connection = await startRedis(t)
  const { app, collector, jobLines } = await observed(t)
  const telemetry = bullmqTelemetry(app)
  const producer = new FlowProducer({ connection, telemetry })
  const worker = new Worker('orders', async () => undefined, { connection, telemetry })
  const children = [{ name: 'fetch', queueName: 'orders', opts: {} }]
  const completed = once(worker, 'completed').then(() => once(worker, 'completed'))
  await producer.add({ name: 'import', queueName: 'orders', opts: {}, children })
  await completed
  await Promise.all([worker.close(), producer.close()])
  await app.close()
  t.match(jobLines(), [{ job: 'orders.fetch' }, { job: 'orders.import' }])
  const makers = collector.spans.filter(({ name }) => name === 'addNode orders')
  const links = collector.spans.filter(({ kind }) => kind === 'CONSUMER').flatMap(({ links }) => links)
  t.same(new Set(links.map(({ spanId }) => spanId)), new Set(makers.map(({ spanId }) => spanId)))
  t.equal(makers[0]?.attributes['messaging.operation.type'], 'create')
})

for (const [metadata, links] of [
  ['{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}', 1],
  ['{"x-correlation-id":"a\\nb","traceparent":[7]}', 0],
  ['null', 0],
  ['{', 0]
] as const) {
  test(`processes a job whose metadata is ${metadata}`, { skip: NO_REDIS }, async (t) => {
    const connection = await startRedis(t)
    const { app, collector, jobLines } = await observed(t)
    const queue = new Queue('orders', { connection })
    const worker = new Worker('orders', async () => undefined, { connection, telemetry: bullmqTelemetry(app) })
    const completed = once(worker, 'completed')
    await queue.add('import', {}, { telemetry: { metadata } })
    await completed
    await Promise.all([worker.close(), queue.close()])
    await app.close()
    t.equal(collector.spans.find(({ kind }) => kind === 'CONSUMER')?.links.length, links)
    t.equal(jobLines()[0]?.correlation_id, jobLines()[0]?.request_id)
  })
}

test('BullMQ works without an app, and an app without the suite is refused', { skip: NO_REDIS }, async (t) => {
  const connection = await startRedis(t)
  const telemetry: Telemetry = bullmqTelemetry()
  const queue = new Queue('orders', { connection, telemetry })
  const worker = new Worker('orders', async () => 'done', { connection, telemetry })
  const completed = once(worker, 'completed')
  await queue.add('import', {})
  const [, result] = await completed
  t.equal(result, 'done')
  await Promise.all([worker.close(), queue.close()])
  t.throws(() => bullmqTelemetry(Fastify()), /needs the suite to be registered on the app first/)
})

test('a failure that BullMQ could not store is no last one', {
  skip: NO_REDIS
}, async (t) => {
  const connection = await startRedis(t)
  const all = await observed(t)
  const options = { connection, telemetry: bullmqTelemetry(all.app) }
  const queue = new Queue('orders', options)
  const worker = new Worker('orders', loseJob, options)
  async function loseJob(): Promise<void> {
    await queue.obliterate({ force: true })
    throw new Error('boom')
  }
  const lost = once(worker, 'error')
  await queue.add('import', {})
  await lost
  await Promise.all([worker.close(), queue.close()])
  await all.app.close()
  t.match(all.jobLines(), [{ level: 'warn', msg: 'job failed', err: { message: /Missing (key|lock)/ } }])
  t.same(all.ingest.events, [])
})

for (const part of ['requestId', 'logging', 'tracing', 'metrics', 'sentry'] as const) {
  test(`by telemetry: processes jobs without ${part}`, { skip: NO_REDIS }, async (t) => {
    const all = await observed(t, { [part]: false })
    await process(t, all, BY_TELEMETRY, failTwice)
    await all.app.close()
    t.equal(all.jobLines().length, part === 'logging' ? 0 : 3)
    t.equal(all.collector.spans.filter(({ kind }) => kind === 'CONSUMER').length, part === 'tracing' ? 0 : 3)
    if (part === 'tracing') t.equal(all.jobLines()[0]?.correlation_id, 'c-1')
  })
}
