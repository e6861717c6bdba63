import { execFileSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { get } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import metrics, { type MetricsOptions } from '../src/index.ts'

async function service(
  declare: (app: FastifyInstance) => void,
  options: MetricsOptions = {}
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(metrics, options)
  declare(app)
  return app
}

/** The lines of `/metrics` that match. */
async function series(app: FastifyInstance, pattern: RegExp): Promise<string[]> {
  const { body } = await app.inject('/metrics')
  return body.split('\n').filter((line) => pattern.test(line))
}

function labels(method: string, route: string, status: number, error = ''): string {
  return `http_request_method="${method}",http_route="${route}",http_response_status_code="${status}",error_type="${error}"`
}

test('counts every request by method, route, status and error', async (t) => {
  const app = await service((app) => {
    app.get('/orders/:id', async () => 'ok')
    app.get('/boom', async () => Promise.reject(Object.assign(new Error('boom'), { code: 'E_BOOM' })))
    app.get('/500', async (_request, reply) => reply.code(500).send())
  })
  for (const url of ['/orders/1', '/orders/2', '/boom', '/500', '/a', '/b']) await app.inject(url)
  t.same(await series(app, /^http_server_request_duration_seconds_count/), [
    `http_server_request_duration_seconds_count{${labels('GET', '/orders/:id', 200)}} 2`,
    `http_server_request_duration_seconds_count{${labels('GET', '/boom', 500, 'E_BOOM')}} 1`,
    `http_server_request_duration_seconds_count{${labels('GET', '/500', 500, '500')}} 1`,
    `http_server_request_duration_seconds_count{${labels('GET', 'unmatched', 404)}} 2`
  ])
})

test('counts a request as soon as its response has closed', async (t) => {
  const { promise: lines, resolve } = Promise.withResolvers<string[]>()
  const app = await service((app) => {
    app.get('/', async (_request, reply) => {
      reply.raw.on('close', () => resolve(series(app, /^http_server_(request_duration_seconds_count|active).*"\/"/)))
      return 'ok'
    })
  })
  t.teardown(() => app.close())
  await fetch(await app.listen({ host: '127.0.0.1', port: 0 }))
  t.same(await lines, [
    `http_server_request_duration_seconds_count{${labels('GET', '/', 200)}} 1`,
    'http_server_active_requests{http_request_method="GET",http_route="/"} 0'
  ])
})

test('measures durations in the buckets of the semantic conventions', async (t) => {
  const app = await service((app) => app.get('/', async () => 'ok'))
  await app.inject('/')
  const buckets = await series(app, /^http_server_request_duration_seconds_bucket.*http_route="\/"/)
  const limits = buckets.map((line) => /le="([^"]+)"/.exec(line)?.[1]).join(' ')
  t.equal(limits, '0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 +Inf')
})

test('counts requests in progress until they end or are aborted', async (t) => {
  const asked = new EventEmitter()
  const ended = new EventEmitter()
  const app = await service((app) => {
    app.get('/slow', async (request) => {
      asked.emit('request')
      await once(request.raw.socket, 'close')
    })
    app.observation.observe({ name: 'test', end: ({ route }) => void (route === '/slow' && ended.emit('slow')) })
  })
  t.teardown(() => app.close())
  const { port } = new URL(await app.listen({ port: 0 }))
  const active = /^http_server_active_requests.*slow/
  const client = get({ port, path: '/slow' }).on('error', () => undefined)
  await once(asked, 'request')
  t.same(await series(app, active), ['http_server_active_requests{http_request_method="GET",http_route="/slow"} 1'])
  const over = once(ended, 'slow')
  client.destroy()
  await over
  t.same(await series(app, active), ['http_server_active_requests{http_request_method="GET",http_route="/slow"} 0'])
  t.same(await series(app, /^http_server_request_duration_seconds_count.*slow/), [
    `http_server_request_duration_seconds_count{${labels('GET', '/slow', 499, 'client_disconnect')}} 1`
  ])
})

test('shows the runtime metrics of fastify-metrics', async (t) => {
  const { body, headers } = await (await service(() => undefined)).inject('/metrics')
  t.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  for (const name of ['process_cpu_seconds_total', 'process_resident_memory_bytes', 'nodejs_eventloop_lag_seconds']) {
    t.match(body, new RegExp(`^${name} [\\d.e-]+$`, 'm'), name)
  }
})

test('counts every garbage collection, also several in a row', async (t) => {
  const app = await service(() => undefined)
  const majors = async () =>
    Number((await series(app, /^nodejs_gc_duration_seconds_count.*major/))[0]?.split(' ').at(-1) ?? 0)
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc')
  const before = await majors()
  for (let n = 0; n < 5; n++) collectGarbage()
  // Node calls its observers in a later turn.
  for (let turn = 0; turn < 100 && (await majors()) < before + 5; turn++) await setImmediate()
  t.ok((await majors()) >= before + 5)
})

test('measures the delay and the utilisation of the event loop since the last scrape', async (t) => {
  const app = await service(() => undefined)
  const value = async (name: string) => Number((await series(app, new RegExp(`^${name} `)))[0]?.split(' ').at(-1))
  const utilization = await value('nodejs_eventloop_utilization_ratio')
  t.ok(utilization >= 0 && utilization <= 1)
  while ((await series(app, /^nodejs_eventloop_lag_min_seconds /)).length === 0) await setImmediate()
  t.ok((await value('nodejs_eventloop_lag_min_seconds')) < 10)
})

test('declares metrics of the application, and returns the same one for the same name', async (t) => {
  const app = await service((app) => {
    const declare = () => app.metrics.counter({ name: 'signups_total', help: 'Signups.', labelNames: ['role'] })
    declare().inc({ role: 'admin' })
    declare().inc({ role: 'admin' })
    app.metrics.gauge({ name: 'sessions', help: 'Sessions.' }).set(3)
    app.metrics.histogram({ name: 'work_seconds', help: 'Work.', buckets: [1, 2] }).observe(1.5)
  })
  t.same(await series(app, /^(signups|sessions|work)/), [
    'signups_total{role="admin"} 2',
    'sessions 3',
    'work_seconds_bucket{le="1"} 0',
    'work_seconds_bucket{le="2"} 1',
    'work_seconds_bucket{le="+Inf"} 1',
    'work_seconds_sum 1.5',
    'work_seconds_count 1'
  ])
  t.throws(() => app.metrics.gauge({ name: 'signups_total', help: 'Another kind.' }), /already been declared/)
})

test('keeps the registries of two apps apart', async (t) => {
  const [a, b] = [await service(() => undefined), await service(() => undefined)]
  a.metrics.gauge({ name: 'only_a', help: 'A.' }).set(1)
  t.same(await series(a, /^only_a/), ['only_a 1'])
  t.same(await series(b, /^only_a/), [])
})

test('counts observers that throw', async (t) => {
  const app = await service((app) => {
    app.observation.observe({
      name: 'broken',
      start: () => {
        throw new Error('observer')
      }
    })
    app.get('/', async () => 'ok')
  })
  await app.inject('/')
  t.match(await series(app, /^observability_observer_errors_total/), [
    /^observability_observer_errors_total\{observer="broken"\} 2$/
  ])
})

test('serves metrics under another path', async (t) => {
  const app = await service(() => undefined, { path: '/internal/metrics' })
  t.equal((await app.inject('/internal/metrics')).statusCode, 200)
  t.equal((await app.inject('/metrics')).statusCode, 404)
})

test('refuses an invalid path', async (t) => {
  const sentence = '@fastify-observability/metrics: option "path" must be a path that starts with "/", got \'metrics\''
  await t.rejects(
    service(() => undefined, { path: 'metrics' }),
    new TypeError(sentence)
  )
})

test('leaves the gauges of the event loop delay out until it is measured', async (t) => {
  const output = execFileSync(process.execPath, [fileURLToPath(new URL('first-scrape.ts', import.meta.url))], {
    encoding: 'utf8'
  })
  t.match(output, /^nodejs_eventloop_lag_seconds [\d.e-]+\n$/)
})

test('has no value in a first scrape that nobody has measured', async (t) => {
  const app = await service(() => undefined)
  const values = (await series(app, /^[a-z]/)).map((line) => [line, Number(line.split(' ').at(-1))] as const)
  t.ok(values.length > 20)
  t.same(
    values.filter(([, value]) => !(value >= 0 && value < 1e13)),
    []
  )
})

test('has default labels beside exemplars in OpenMetrics, and in every bucket of a histogram', async (t) => {
  const app = await service(() => undefined)
  app.metrics.histogram({ name: 'work_seconds', help: 'W.', buckets: [1] }).observe(0.5)
  app.metrics.registry.setDefaultLabels({ region: 'eu' })
  const { body } = await app.inject({ url: '/metrics', headers: { accept: 'application/openmetrics-text' } })
  const work = body.split('\n').filter((line) => line.startsWith('work_seconds'))
  t.equal(work.length, 4)
  t.ok(work.every((line) => line.includes('region="eu"')))
})

test('adds the default labels of the registry to every series', async (t) => {
  const app = await service(() => undefined)
  const { client, registry } = app.metrics
  app.metrics.gauge({ name: 'ours', help: 'O.', labelNames: ['room'] }).set({ room: 'hall' }, 1)
  new client.Gauge({ name: 'theirs', help: 'T.', labelNames: ['region'], registers: [registry] }).set(
    { region: 'us' },
    2
  )
  registry.setDefaultLabels({ region: 'eu' })
  await app.inject('/nowhere')
  t.same(await series(app, /^(ours|theirs)/), ['ours{room="hall",region="eu"} 1', 'theirs{region="us"} 2'])
  const all = await series(app, /^[a-z]/)
  t.same(
    all.filter((line) => !line.includes('region="')),
    []
  )
  t.match(await registry.metrics(), /^ours\{room="hall",region="eu"\} 1$/m)
  registry.setDefaultLabels({})
  t.same(await series(app, /^ours/), ['ours{room="hall"} 1'])
})
