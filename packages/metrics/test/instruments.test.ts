import { registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import metrics, { type MetricsOptions } from '../src/index.ts'
import { HistogramSeries, ScalarSeries, SeriesSet } from '../src/instruments/series.ts'

async function service(options: MetricsOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(metrics, options)
  return app
}

async function lines(app: FastifyInstance, pattern: RegExp): Promise<string[]> {
  const { body } = await app.inject('/metrics')
  return body.split('\n').filter((line) => pattern.test(line))
}

const name = '@fastify-observability/metrics: metric'
const REFUSED: [kind: 'counter' | 'gauge' | 'histogram', options: object, sentence: string][] = [
  ['counter', { name: 'jobs', help: 'Jobs.' }, `${name} "jobs" must end in "_total", as counters do`],
  ['gauge', { name: 'a-b', help: 'A.' }, `${name} "a-b" is not a name of letters, digits and "_"`],
  ['gauge', { name: 'a', help: '' }, `${name} "a" must have a help text`],
  [
    'gauge',
    { name: 'a', help: 'A.', labelNames: ['a-b'] },
    `${name} "a" must have distinct label names of letters, digits and "_", got "a-b"`
  ],
  [
    'gauge',
    { name: 'a', help: 'A.', labelNames: ['b', 'b'] },
    `${name} "a" must have distinct label names of letters, digits and "_", got "b"`
  ],
  ['histogram', { name: 'a', help: 'A.', labelNames: ['le'] }, `${name} "a" must not have a label "le"`],
  ['histogram', { name: 'a', help: 'A.', buckets: [2, 1] }, `${name} "a" must have ascending buckets, got [2, 1]`],
  ['gauge', { name: 'known_total', help: 'A.' }, `${name} "known_total" has already been declared as another metric`],
  [
    'gauge',
    { name: 'known', help: 'A.' },
    `${name} "known" conflicts with known_total: OpenMetrics has one name for both`
  ],
  [
    'counter',
    { name: 'known_total', help: 'A.', labelNames: ['b'] },
    `${name} "known_total" has been declared with the labels [kind], got [b]`
  ]
]

test('refuses wrong names and labels where they are declared', async (t) => {
  const app = await service()
  app.metrics.counter({ name: 'known_total', help: 'Known.', labelNames: ['kind'] })
  for (const [kind, options, sentence] of REFUSED) {
    t.throws(() => Reflect.apply(app.metrics[kind], undefined, [options]), new TypeError(sentence))
  }
})

test('takes the labels of a metric by name', async (t) => {
  const app = await service()
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['kind', 'size'] })
  jobs.inc({ kind: 'mail', size: 2 })
  jobs.labels({ kind: 'mail' }).inc(3)
  // @ts-expect-error: not a label
  jobs.inc({ colour: 'red' })
  // @ts-expect-error: has no labels
  app.metrics.counter({ name: 'plain_total', help: 'Plain.' }).inc({ kind: 'mail' })
  t.same(await lines(app, /^(jobs|plain)_total/), [
    'jobs_total{kind="mail",size="2"} 1',
    'jobs_total{kind="mail",size=""} 3',
    'plain_total 0'
  ])
})

test('counts and drops invalid values, and never throws into a handler', async (t) => {
  const app = await service()
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['kind'] })
  const size = app.metrics.gauge({ name: 'size', help: 'Size.' })
  const work = app.metrics.histogram({ name: 'work_seconds', help: 'Work.', buckets: [1] })
  app.get('/', async () => {
    jobs.inc({ kind: 'a' }, -1)
    jobs.inc({ kind: 'a' }, Number.NaN)
    Reflect.apply(jobs.inc, jobs, [{ colour: 'red' }])
    Reflect.apply(jobs.inc, jobs, [{ kind: { toString: () => Promise.reject() } }])
    Reflect.apply(jobs.inc, jobs, [null])
    size.set(Number.POSITIVE_INFINITY)
    Reflect.apply(work.observe, work, [{}])
    return 'ok'
  })
  t.equal((await app.inject('/')).statusCode, 200)
  t.same(await lines(app, /^(jobs_total|size|work_seconds_count|metrics_values)/), [
    'size 0',
    'work_seconds_count 0',
    'metrics_values_dropped_total{metric="jobs_total",reason="negative"} 1',
    'metrics_values_dropped_total{metric="jobs_total",reason="not_finite"} 2',
    'metrics_values_dropped_total{metric="jobs_total",reason="label"} 2',
    'metrics_values_dropped_total{metric="size",reason="not_finite"} 1',
    'metrics_values_dropped_total{metric="work_seconds",reason="not_finite"} 1'
  ])
})

test('limits the series of a metric and the values of a label, and warns once', async (t) => {
  const log: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line) => void log.push(line) } } })
  await app.register(metrics, { maxSeries: 4, maxLabelValues: 3 })
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['a', 'b'] })
  for (let n = 0; n < 10_000; n++) jobs.inc({ a: `a${n}`, b: 'x' })
  for (let n = 0; n < 10; n++) jobs.inc({ a: 'a0', b: `b${n}` })
  t.same(await lines(app, /^(jobs_total|metrics_series)/), [
    'jobs_total{a="a0",b="x"} 1',
    'jobs_total{a="a1",b="x"} 1',
    'jobs_total{a="a2",b="x"} 1',
    'jobs_total{a="__overflow__",b="x"} 9997',
    'jobs_total{a="__overflow__",b="__overflow__"} 10',
    'metrics_series_overflow_total{metric="jobs_total"} 10007'
  ])
  t.match(
    log.map((line) => JSON.parse(line)),
    [{ level: 40, metric: 'jobs_total' }]
  )
  jobs.remove({ a: 'a1', b: 'x' })
  t.same(await lines(app, /^jobs_total\{a="a1"/), [])
})

test('keeps label sets apart that differ only in where one value ends', async (t) => {
  const app = await service()
  const pairs = app.metrics.gauge({ name: 'pairs', help: 'Pairs.', labelNames: ['a', 'b'] })
  pairs.set({ a: 'x|', b: 'y' }, 1)
  pairs.set({ a: 'x', b: '|y' }, 2)
  t.same(await lines(app, /^pairs/), ['pairs{a="x|",b="y"} 1', 'pairs{a="x",b="|y"} 2'])
})

test('times functions that return, throw, resolve and reject', async (t) => {
  const app = await service()
  const work = app.metrics.histogram({ name: 'work_seconds', help: 'Work.', labelNames: ['kind'] })
  const { time } = app.metrics
  const seven: number = time(work, { kind: 'returns' }, () => 7)
  t.equal(seven, 7)
  t.throws(
    () =>
      time(work, { kind: 'throws' }, () => {
        throw new Error('no')
      }),
    /no/
  )
  const eight: Promise<number> = time(work, { kind: 'resolves' }, async () => 8)
  t.equal(await eight, 8)
  await t.rejects(
    time(work, { kind: 'rejects' }, async () => Promise.reject(new Error('no'))),
    /no/
  )
  t.same(await lines(app, /^work_seconds_count/), [
    'work_seconds_count{kind="returns"} 1',
    'work_seconds_count{kind="throws"} 1',
    'work_seconds_count{kind="resolves"} 1',
    'work_seconds_count{kind="rejects"} 1'
  ])
})

test('takes the exemplar from the current request, if its span is sampled', async (t) => {
  const app = await service()
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['kind'] })
  registryOf(app).observe({
    name: 'span',
    start(observation) {
      const isSampled = observation.path === '/sampled'
      observation.spanContext = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: isSampled ? 1 : 0 }
    }
  })
  app.get('/:kind', async ({ url }) => jobs.inc({ kind: url.slice(1) }))
  await app.inject('/sampled')
  await app.inject('/dropped')
  const { body } = await app.inject({ url: '/metrics', headers: { accept: 'application/openmetrics-text' } })
  const [sampled, dropped] = body.split('\n').filter((line) => line.startsWith('jobs_total'))
  t.match(sampled, /^jobs_total\{kind="sampled"\} 1 # \{trace_id="a{32}",span_id="b{16}"\} 1 \d+\.?\d*$/)
  t.equal(dropped, 'jobs_total{kind="dropped"} 1')
})

test('keeps an exemplar for 100 ms, then takes the next', async (t) => {
  const app = await service()
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.' })
  let request = 0
  registryOf(app).observe({
    name: 'span',
    start(observation) {
      observation.spanContext = { traceId: `${request++}`.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }
    }
  })
  app.get('/', async () => jobs.inc())
  const exemplar = async (): Promise<string | undefined> => {
    const { body } = await app.inject({ url: '/metrics', headers: { accept: 'application/openmetrics-text' } })
    return /^jobs_total .*trace_id="(\d)/m.exec(body)?.[1]
  }
  await app.inject('/')
  const first = await exemplar()
  t.equal(first, '0')
  while ((await exemplar()) === first) await app.inject('/')
  t.not(await exemplar(), '0')
})

test('shows connection pools, and all others when one throws', async (t) => {
  const app = await service()
  app.metrics.observePool('main', () => ({ size: 5, idle: 2, waiting: 1 }))
  app.metrics.observePool('broken', () => {
    throw new Error('closed')
  })
  app.metrics.observePool('replica', () => ({ size: 1, idle: 1 }))
  t.same(await lines(app, /^db_client_connection_count/), [
    'db_client_connection_count{state="idle",pool="main"} 2',
    'db_client_connection_count{state="used",pool="main"} 3',
    'db_client_connection_count{state="waiting",pool="main"} 1',
    'db_client_connection_count{state="idle",pool="replica"} 1',
    'db_client_connection_count{state="used",pool="replica"} 0',
    'db_client_connection_count{state="waiting",pool="replica"} 0'
  ])
})

test('shows metrics made with the client itself, and writes by the client to our metrics', async (t) => {
  const app = await service()
  const { client, registry } = app.metrics
  new client.Summary({ name: 'theirs', help: 'Theirs.', percentiles: [0.5], registers: [registry] }).observe(1)
  app.metrics.counter({ name: 'ours_total', help: 'Ours.' })
  const ours = registry.getSingleMetric('ours_total')
  if (ours instanceof client.Counter) ours.inc(2)
  t.same(await lines(app, /^(theirs|ours)/), [
    'theirs{quantile="0.5"} 1',
    'theirs_sum 1',
    'theirs_count 1',
    'ours_total 2'
  ])
  t.match(await registry.metrics(), /^ours_total 2$/m)
})

test('frees names and listeners when an app closes', async (t) => {
  for (let round = 0; round < 30; round++) {
    const app = await service()
    app.metrics.counter({ name: 'jobs_total', help: 'Jobs.' }).inc()
    t.same(await lines(app, /^jobs_total/), ['jobs_total 1'])
    t.equal((await lines(app, /^process_cpu_seconds_total/)).length, 1)
    await app.close()
  }
})

test('shows booleans and nulls given as labels to a metric of the client', async (t) => {
  const app = await service()
  const { client, registry } = app.metrics
  const counter = new client.Counter({ name: 'native_total', help: 'N.', labelNames: ['ok'], registers: [registry] })
  for (const ok of [true, null]) Reflect.apply(counter.inc, counter, [{ ok }])
  t.same(await lines(app, /^native_total/), ['native_total{ok="true"} 1', 'native_total{ok="null"} 1'])
})

test('counts label values that are the same on the wire as one series', async (t) => {
  const app = await service()
  const counter = app.metrics.counter({ name: 'text_total', help: 'T.', labelNames: ['text'] })
  counter.inc({ text: '\ud800' })
  counter.inc({ text: '\ud801' })
  t.same(await lines(app, /^text_total/), ['text_total{text="\ufffd"} 2'])
})

test('drops a value whose labels are no object', async (t) => {
  const app = await service()
  const gauge = app.metrics.gauge({ name: 'size', help: 'S.', labelNames: ['room'] })
  Reflect.apply(gauge.remove, gauge, ['hall'])
  Reflect.apply(gauge.setToCurrentTime, gauge, ['hall'])
  t.same(await lines(app, /^(size|metrics_values_dropped_total)/), [
    'metrics_values_dropped_total{metric="size",reason="label"} 2'
  ])
})

test('throws at once for labels of the suite that are not those declared', async (t) => {
  const limits = { maxSeries: 9, maxLabelValues: 9 }
  const names = ['http_request_method', 'http_route', 'url_scheme'] as const
  const set = new SeriesSet(names, () => new ScalarSeries(), limits, t.fail)
  const declared = 'the labels [http_request_method, http_route, url_scheme] are declared'
  const known = { http_request_method: 'GET', http_route: '/orders' }
  // @ts-expect-error: url_scheme is forgotten
  t.throws(() => set.get(known), new TypeError(`${declared}, got [http_request_method, http_route]`))
  // @ts-expect-error: by position
  t.throws(() => set.get(['GET', '/orders', 'http']), new TypeError(`${declared}, got [0, 1, 2]`))
  const misspelt = { ...known, url_scheme: 'http', scheme: 'http' }
  t.throws(() => set.get(misspelt), /got \[http_request_method, http_route, url_scheme, scheme\]$/)
  t.same([...set.entries()], [])
  set.get({ ...known, url_scheme: 'http' }).add(2)
  t.match([...set.entries()], [[{ value: 2 }, { ...known, url_scheme: 'http' }]])
})

test('shows published series by their labels, and reports one whose labels are not those declared', async (t) => {
  const app = await service()
  const series = { help: 'H.', type: 'gauge', labelNames: ['room', 'floor'] } as const
  app.observation.publish({ ...series, name: 'heat', collect: () => [[{ floor: '2', room: 'hall' }, 20]] })
  // @ts-expect-error: floor is forgotten
  app.observation.publish({ ...series, name: 'light', collect: () => [[{ room: 'hall' }, 1]] })
  t.same(await lines(app, /^(heat|light)/), ['heat{room="hall",floor="2"} 20'])
  t.same(await lines(app, /^observability_observer_errors_total/), [
    'observability_observer_errors_total{observer="@fastify-observability/metrics"} 1'
  ])
})

test('drops a value whose labels throw when they are read, or have no prototype and other names', async (t) => {
  const app = await service()
  const work = app.metrics.histogram({ name: 'work_seconds', help: 'W.', labelNames: ['tenant'], buckets: [1] })
  const lazy = {
    get tenant(): string {
      throw new Error('relation not loaded')
    }
  }
  t.equal(await app.metrics.time(work, lazy, async () => 7), 7)
  const query = Object.assign(Object.create(null), { tenant: 'a' })
  work.observe(query, 0.5)
  Reflect.apply(work.observe, work, [Object.assign(Object.create(null), { colour: 'red' }), 1])
  const hidden = new Proxy({}, { ownKeys: () => [Symbol('x')], get: () => 'x' })
  t.doesNotThrow(() => work.remove(hidden))
  t.doesNotThrow(() => work.observe(lazy, 1))
  t.same(await lines(app, /^(work_seconds_count|metrics_values_dropped_total)/), [
    'work_seconds_count{tenant="a"} 1',
    'metrics_values_dropped_total{metric="work_seconds",reason="label"} 3'
  ])
})

test('leaves out samples of the client whose labels cannot be written', async (t) => {
  const app = await service()
  const { client, registry } = app.metrics
  const counter = new client.Counter({ name: 'native_total', help: 'N.', labelNames: ['id'], registers: [registry] })
  counter.inc({ id: 'a' })
  const family = await counter.get()
  const hostile = { value: 2, labels: { id: Object.create(null) } }
  Object.assign(counter, { get: async () => ({ ...family, values: [...family.values, hostile] }) })
  t.same(await lines(app, /^native_total/), ['native_total{id="a"} 1'])
  t.match(await lines(app, /^observability_observer_errors_total/), [/metrics"\} [12]$/])
})

test('times a query builder until its query settles, and runs the query no second time', async (t) => {
  const app = await service()
  const work = app.metrics.histogram({ name: 'work_seconds', help: 'W.', labelNames: ['kind'] })
  let runs = 0
  const builder = (query: () => Promise<number>) => ({
    // biome-ignore lint/suspicious/noThenProperty: as query builders have it
    then<A, B>(fulfilled?: (value: number) => A, rejected?: (error: unknown) => B) {
      runs++
      return query().then(fulfilled, rejected)
    }
  })
  const { promise, resolve } = Promise.withResolvers<number>()
  const pending = app.metrics.time(work, { kind: 'resolves' }, () => builder(() => promise))
  t.equal(runs, 0)
  const result = Promise.resolve(pending)
  t.same(await lines(app, /^work_seconds_count/), [])
  resolve(7)
  t.equal(await result, 7)
  const failing = app.metrics.time(work, { kind: 'rejects' }, () => builder(() => Promise.reject(new Error('no'))))
  await t.rejects(Promise.resolve(failing), /no/)
  t.equal(runs, 2)
  t.same(await lines(app, /^work_seconds_count/), [
    'work_seconds_count{kind="resolves"} 1',
    'work_seconds_count{kind="rejects"} 1'
  ])
})

test('declares a metric anew that was removed from the registry', async (t) => {
  const app = await service()
  app.metrics.counter({ name: 'jobs_total', help: 'Jobs.' }).inc()
  app.metrics.registry.removeSingleMetric('jobs_total')
  t.same(await lines(app, /^jobs_total/), [])
  app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['kind'] }).inc({ kind: 'a' })
  t.same(await lines(app, /^jobs_total/), ['jobs_total{kind="a"} 1'])
})

test('takes ten exemplars a second at most, also by a clock that was set back', async (t) => {
  const series = new HistogramSeries([1])
  const span = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }
  const taken = [1_000, 1_099, 1_100, 500].map((now) => {
    series.observe(0.5, span, now)
    return series.exemplars[0]?.timestampMs
  })
  t.same(taken, [1_000, 1_000, 1_100, 500])
})

test('cuts the value of a label at 256 characters, and takes a new one for each that was removed', async (t) => {
  const app = await service({ maxLabelValues: 2 })
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs.', labelNames: ['kind'] })
  jobs.inc({ kind: 'x'.repeat(300) })
  jobs.inc({ kind: 'b' })
  jobs.remove({ kind: 'b' })
  jobs.inc({ kind: 'c' })
  t.same(await lines(app, /^jobs_total/), [`jobs_total{kind="${'x'.repeat(256)}"} 1`, 'jobs_total{kind="c"} 1'])
})
