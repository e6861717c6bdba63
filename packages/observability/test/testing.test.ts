import { once } from 'node:events'
import { connect } from 'node:net'
import { inspect } from 'node:util'
import logging from '@fastify-observability/logging'
import metrics from '@fastify-observability/metrics'
import { runInBackground } from '@fastify-observability/observation/internal'
import sentry from '@fastify-observability/sentry'
import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import tracing from '@fastify-observability/tracing'
import { ProxyTracerProvider, trace } from '@opentelemetry/api'
import { TracerProvider } from '@opentelemetry/sdk-trace'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, {
  createLogger,
  logger,
  type ObservabilityOptions,
  observe as runAsJob,
  withSpan
} from '../src/index.ts'
import { observe, type Seen } from '../src/testing.ts'

const stream = { write: () => undefined }
const PATIENT = { timeoutMs: PATIENCE_MS }

/** A service as its tests build it, and what is seen of it. */
async function service(t: Test, options: ObservabilityOptions = {}): Promise<{ app: FastifyInstance; seen: Seen }> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, { logging: { stream }, ...options })
  app.get('/users/:id', async ({ log }) => {
    log.info({ step: 1 }, 'looking up')
    return withSpan('load', async () => ({ id: 7 }))
  })
  app.get('/boom', async () => Promise.reject(new RangeError('boom')))
  return { app, seen: await observe(app, PATIENT) }
}

const spanNames = ({ spans }: { spans: readonly { name: string }[] }) => spans.map(({ name }) => name)

test('a request has its line, span, metrics and event, without an endpoint, a DSN or a port', async (t) => {
  const { app, seen } = await service(t)
  await app.inject('/boom')
  const { line, span, metrics, event, ...request } = await seen.request({ route: '/boom' })
  t.match(request, {
    method: 'GET',
    path: '/boom',
    statusCode: 500,
    errorType: 'RangeError',
    error: { message: 'boom' }
  })
  t.match(line, { level: 'error', msg: 'request completed', status_code: 500, err: { type: 'RangeError' } })
  t.match(span, { name: 'GET /boom', kind: 'server', status: 'error', attributes: { 'http.route': '/boom' } })
  t.match([span?.traceId, span?.spanId], [line?.trace_id, line?.span_id])
  t.match(metrics?.http_server_request_duration_seconds, { labels: { error_type: 'RangeError' }, value: 1 })
  t.match(event, { tags: { request_id: line?.request_id }, exception: { values: [{ value: 'boom' }] } })
  t.equal(line?.sentry_event_id, event?.event_id)
})

test('a request that was answered is seen when inject resolves, with all its lines and spans', async (t) => {
  const { app, seen } = await service(t)
  await app.inject('/users/7')
  t.match(seen.requests, [{ route: '/users/:id', statusCode: 200, event: undefined }])
  const [request] = seen.requests
  t.match(request?.lines, [{ msg: 'looking up', step: 1 }, { msg: 'request completed' }])
  t.match(request && spanNames(request), ['load', 'GET /users/:id'])
  t.equal(request?.spans[0]?.parentSpanId, request?.span?.spanId)
})

test('sees requests over a socket, and those whose client has left', async (t) => {
  const { app, seen } = await service(t)
  app.get('/slow', (_request, reply) => void reply.raw.flushHeaders())
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  await runInBackground(fetch, `${origin}/users/7`)
  t.match(await seen.request({ route: '/users/:id' }), { line: { status_code: 200 }, span: { kind: 'server' } })
  const socket = connect(Number(new URL(origin).port), '127.0.0.1')
  socket.write('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n')
  await once(socket, 'data')
  socket.destroy()
  const { line, metrics } = await seen.request({ aborted: true })
  t.match(line, { msg: 'request aborted', route: '/slow' })
  t.match(metrics?.http_server_request_duration_seconds?.labels, { error_type: 'client_disconnect' })
})

for (const order of ['before the parts are registered', 'before they are waited for', 'while the app serves']) {
  test(`observes an app that is given ${order}`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    const early = order.startsWith('before the parts') ? await observe(app, PATIENT) : undefined
    app.register(observability, { logging: { stream } })
    app.get('/boom', async () => Promise.reject(new Error('boom')))
    if (order.startsWith('while')) await app.listen({ port: 0, host: '127.0.0.1' })
    const seen = early ?? (await observe(app, PATIENT))
    await app.inject('/boom')
    t.match(await seen.request(), {
      line: { status_code: 500 },
      span: { name: 'GET /boom' },
      metrics: { http_server_request_duration_seconds: { value: 1 } },
      event: { transaction: 'GET /boom' }
    })
  })
}

const ALONE = {
  line: (app: FastifyInstance) => app.register(logging, { stream }),
  span: (app: FastifyInstance) => app.register(tracing),
  metrics: (app: FastifyInstance) => app.register(metrics)
} as const

for (const [signal, register] of Object.entries(ALONE)) {
  test(`of an app with one part alone, a request has its ${signal} and nothing else`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await register(app)
    app.get('/', async () => 'ok')
    const seen = await observe(app, PATIENT)
    await app.inject('/')
    const { line, span, metrics, event } = await seen.request({ route: '/' })
    const present = Object.entries({ line, span, metrics, event }).filter(([, value]) => value !== undefined)
    t.same(
      present.map(([name]) => name),
      [signal]
    )
  })
}

test('sees the events of sentry alone, whose DSN gets them too', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn })
  app.get('/boom', async () => Promise.reject(new Error('boom')))
  const seen = await observe(app, PATIENT)
  await app.inject('/boom')
  const { event } = await seen.request()
  await app.close()
  t.match(ingest.events, [{ event_id: event?.event_id, exception: { values: [{ value: 'boom' }] } }])
})

test('the failures of an app without a DSN are not sent by that of another app', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const other = Fastify()
  await other.register(sentry, { dsn: ingest.dsn })
  const { app, seen } = await service(t)
  await app.inject('/boom')
  t.match(await seen.request(), { line: { status_code: 500 }, event: undefined })
  await Promise.all([app.close(), other.close()])
  t.same(ingest.events, [])
})

test('sees the spans that a collector gets, too, and changes nothing of what is reported', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const { app, seen } = await service(t, { tracing: { endpoint: collector.url } })
  const before = inspect(app.observability.report(), { depth: 5 })
  await observe(app, PATIENT)
  t.equal(inspect(app.observability.report(), { depth: 5 }), before)
  await app.inject('/users/7')
  await app.close()
  t.same(spanNames(seen), ['load', 'GET /users/:id'])
  t.same(spanNames(collector).sort(), spanNames(seen).sort())
})

test('twenty apps of one process are told apart', async (t) => {
  const services = await Promise.all(Array.from({ length: 20 }, () => service(t)))
  await Promise.all(
    services.map(async ({ app }, number) => {
      for (let request = 0; request <= number; request++) await app.inject(request % 5 ? '/users/7' : '/boom')
    })
  )
  for (const [number, { seen }] of services.entries()) {
    const failed = Math.floor(number / 5) + 1
    await seen.request(() => seen.requests.length > number)
    t.equal(seen.spans.length, failed + 2 * (number + 1 - failed))
    t.equal(seen.lines.filter(({ msg }) => msg === 'request completed').length, number + 1)
    t.equal(seen.events.length, failed)
    const points = (await seen.points()).filter(({ name }) => name === 'http_server_request_duration_seconds')
    t.equal(
      points.reduce((sum, { value }) => sum + value, 0),
      number + 1
    )
  }
})

test('apps that share a logger have their own lines', async (t) => {
  const loggerInstance = createLogger({ stream })
  const [one, other] = [Fastify({ loggerInstance }), Fastify({ loggerInstance })]
  for (const app of [one, other]) {
    await app.register(observability, { sentry: false })
    app.get('/', async ({ log }) => log.info('within'))
    t.teardown(() => app.close())
  }
  const [first, second] = [await observe(one, PATIENT), await observe(other, PATIENT)]
  await one.inject('/')
  t.match(first.requests, [{ line: { route: '/' }, lines: [{ msg: 'within' }, { msg: 'request completed' }] }])
  t.same(second.requests, [])
  t.same(second.lines, [])
})

test('the requests of one moment have their own metrics, lines and spans', async (t) => {
  const { app, seen } = await service(t)
  await Promise.all(['/users/1', '/nowhere', '/boom', '/users/2'].map((url) => app.inject(url)))
  await seen.request({ route: '/boom' })
  t.equal(seen.requests.length, 4)
  for (const { path, route, statusCode, line, lines, span, metrics } of seen.requests) {
    t.match([line?.path, span?.attributes['url.path']], [path, path])
    t.ok(lines.every(({ request_id }) => request_id === line?.request_id))
    t.match(metrics?.http_server_request_duration_seconds, {
      labels: { http_route: route, http_response_status_code: String(statusCode) },
      value: 1
    })
  }
})

test('a job has its line, span, metrics and event, and those of the request that it runs in stay apart', async (t) => {
  const { app, seen } = await service(t)
  app.get('/import', async ({ log }) => {
    await runAsJob('import', async () => {
      logger().info('of the job')
      throw new Error('no file')
    }).catch(() => log.info('of the request'))
  })
  await app.inject('/import')
  const { line, lines, span, metrics, event } = await seen.job('import')
  t.match(line, { level: 'error', msg: 'job failed', job: 'import', sentry_event_id: event?.event_id })
  t.match(lines, [{ msg: 'of the job' }, { msg: 'job failed' }])
  t.match([span?.name, span?.status], ['import', 'error'])
  t.match(metrics, { job_duration_seconds: { labels: { job: 'import', outcome: 'failed' }, value: 1 } })
  const request = await seen.request({ route: '/import' })
  t.match(request.lines, [{ msg: 'of the request' }, { msg: 'request completed' }])
  t.same([spanNames(request), request.event], [['GET /import'], undefined])
})

test('points are what was added since the app is observed, or since clear', async (t) => {
  const { app, seen } = await service(t)
  const orders = app.metrics.counter({ name: 'orders_total', help: 'Orders.', labelNames: ['plan'] })
  const seats = app.metrics.gauge({ name: 'seats', help: 'Seats.' })
  orders.inc({ plan: 'pro' })
  const later = await observe(app, PATIENT)
  orders.inc({ plan: 'pro' }, 2)
  seats.set(7)
  t.match(await later.point('orders_total', { plan: 'pro' }), { value: 2 })
  t.match(await seen.point('orders_total'), { value: 3, type: 'counter' })
  await seen.clear()
  t.match(await seen.point('seats'), { value: 7, labels: {} })
  const added = await seen.points()
  t.notOk(added.some(({ name }) => name === 'orders_total'))
})

test('a waiter resolves with what comes later', async (t) => {
  const { app, seen } = await service(t)
  const orders = app.metrics.counter({ name: 'orders_total', help: 'Orders.' })
  const all = Promise.all([
    seen.line('paid'),
    seen.line({ msg: /^pa.d$/, amount: 5 }),
    seen.span('pay'),
    seen.span(({ attributes }) => attributes.amount === 5),
    seen.event({ message: 'refused' }),
    seen.point('orders_total')
  ])
  app.log.info({ amount: 5 }, 'paid')
  withSpan('pay', { amount: 5 }, () => 'done')
  Sentry.captureMessage('refused')
  orders.inc()
  t.match(await all, [{ level: 'info' }, { amount: 5 }, { kind: 'internal' }, { name: 'pay' }, {}, { value: 1 }])
})

test('a waiter whose time is up says what was seen, and where it was called', async (t) => {
  const { app, seen } = await service(t, { metrics: false, tracing: false })
  const { promise, resolve } = Promise.withResolvers<string>()
  t.teardown(() => resolve('late'))
  app.get('/hang', () => promise)
  void app.inject('/hang').then(({ body }) => body)
  await app.inject('/users/7')
  const options = { timeoutMs: 1 }
  await t.rejects(seen.request({ route: '/orders' }, options), {
    message:
      "fastify-observability/testing: no request that matches { route: '/orders' } within 1 ms; seen: " +
      'GET /users/:id 200; not ended: GET /hang',
    stack: /testing\.test\.ts/
  })
  await t.rejects(seen.line('never', options), /seen: info "looking up", info "request completed"; not ended/)
  await t.rejects(seen.span('never', options), /seen: none \(tracing is not registered\)/)
  await t.rejects(seen.point('orders_total', {}, options), /seen: none \(metrics are not registered\)/)
})

test('what still waits when the app closes is rejected, and what was seen stays', async (t) => {
  const { app, seen } = await service(t)
  const waiting = t.rejects(seen.span('never'), /no span that matches 'never' before the app was closed/)
  app.addHook('onClose', async () => app.log.info('the database is closed'))
  await app.inject('/users/7')
  await app.close()
  await waiting
  t.match(await seen.line('the database is closed'), { level: 'info' })
  t.match(await seen.point('http_server_request_duration_seconds'), { value: 1 })
})

test('sees nothing after stop, and forgets by clear', async (t) => {
  const { app, seen } = await service(t)
  await app.inject('/users/7')
  await seen.clear()
  t.same([seen.requests, seen.lines, seen.spans, seen.events], [[], [], [], []])
  await app.inject('/users/7')
  seen.stop()
  await app.inject('/boom')
  t.match(seen.requests, [{ route: '/users/:id' }])
  t.equal(seen.requests.length, 1)
})

test('leaves no global behind', async (t) => {
  const listeners = () => process.eventNames().map((name) => [name, process.listenerCount(name)])
  const { app, seen } = await service(t)
  await app.close()
  const before = listeners()
  for (let turn = 0; turn < 3; turn++) {
    const { app, seen } = await service(t)
    await app.inject('/boom')
    await seen.request()
    await app.close()
  }
  t.same(listeners(), before)
  const provider = trace.getTracerProvider()
  t.ok(provider instanceof ProxyTracerProvider && provider.getDelegateTracer('probe') === undefined)
  t.notOk(Sentry.isEnabled())
  t.same(seen.requests, [])
})

test('without a DSN, what beforeSend drops is no event, and no answer has an id of one', async (t) => {
  const { app, seen } = await service(t, { sentry: { eventIdInBody: true, sdk: { beforeSend: () => null } } })
  const { payload } = await app.inject('/boom')
  t.notMatch(payload, 'sentry_event_id')
  t.match(await seen.request({ route: '/boom' }), { event: undefined, line: { status_code: 500 } })
  t.same(seen.events, [])
})

test('sees the spans that keep exports, and none that is not sampled', async (t) => {
  const { app, seen } = await service(t, { keep: true, tracing: { sampleRatio: 0 } })
  await app.inject('/users/7')
  await app.inject('/boom')
  t.match(await seen.request({ route: '/boom' }), { span: { attributes: { 'keep.reason': 'error' } } })
  t.same(spanNames(seen), ['GET /boom'])
})

test('sees the spans of requests and jobs that a tracer provider of the application makes', async (t) => {
  trace.setGlobalTracerProvider(new TracerProvider())
  t.teardown(() => trace.disable())
  const { app, seen } = await service(t)
  await app.inject('/users/7')
  await app.observability.observe('import', () => 'done')
  const [request, job] = [await seen.request(), await seen.job()]
  t.match(request, { span: { name: 'GET /users/:id', kind: 'server', spanId: request.line?.span_id } })
  t.match(job, { span: { name: 'import', kind: 'internal', spanId: job.line?.span_id } })
  t.equal(seen.spans.length, 2)
})

test('events, lines and spans have no secrets', async (t) => {
  const { app, seen } = await service(t)
  app.get('/login', async ({ log }) => {
    log.info({ password: 'hunter2' }, 'token=hunter2')
    return withSpan('login', { password: 'hunter2' }, () => Promise.reject(new Error('password=hunter2')))
  })
  await app.inject('/login?token=hunter2')
  const { lines, spans, events } = await seen.request({ route: '/login' })
  t.match([lines.length, spans.length, events.length], [2, 2, 1])
  t.notMatch(JSON.stringify([lines, spans, events]), 'hunter2')
})

test('refuses what is no Fastify app', async (t) => {
  const message =
    'fastify-observability/testing: observe(app) takes a Fastify instance, of NestJS app.getHttpAdapter().getInstance()'
  await t.rejects(observe(Object({})), new TypeError(message))
})
