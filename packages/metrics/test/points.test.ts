import { registryOf } from '@fastify-observability/observation/internal'
import type { HistogramPoint, Metric, NumberPoint, TemporalityPreference } from '@fastify-observability/otlp'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import type { Family, Sample } from '../src/exposition/format.ts'
import metrics from '../src/index.ts'
import { createPointSource } from '../src/otlp/points.ts'
import { openWindows } from '../src/otlp/windows.ts'

const START = 1_000
const TRACE = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) }

function source() {
  return createPointSource({ startTimeMs: START, scheme: 'https' })
}

function counter(...values: Sample[]): Family {
  return { name: 'jobs_total', help: 'Jobs.', type: 'counter', values }
}

/** An app of one route whose requests are in one sampled trace. */
async function service(): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(metrics, { durationBuckets: [10, 20], bodySizeBuckets: [10], exclude: ['/metrics'] })
  registryOf(app).observe({
    name: 'span',
    start: (observation) => {
      observation.spanContext = { ...TRACE, traceFlags: 1 }
    }
  })
  app.get('/orders/:id', async () => 'four')
  return app
}

/** The metrics of the app as the client's registry gives them. */
async function families(app: FastifyInstance): Promise<Family[]> {
  return Promise.all(app.metrics.registry.getMetricsAsArray().map(({ name }) => family(app, name)))
}

async function family(app: FastifyInstance, name: string): Promise<Family> {
  const metric = app.metrics.registry.getSingleMetric(name)
  if (!metric) throw new Error(`no metric ${name}`)
  return metric.get()
}

test('names request metrics and their attributes as the semantic conventions do', async (t) => {
  const app = await service()
  await app.inject('/orders/1')
  await app.inject('/nowhere')
  const points = source()(await families(app), 'cumulative', Date.now())
  const request = { 'url.scheme': 'https', 'http.request.method': 'GET' }
  const route = { ...request, 'http.route': '/orders/:id' }
  const named = (name: string) => points.find((metric) => metric.name === name)
  t.match(named('http.server.request.duration'), {
    unit: 's',
    type: 'histogram',
    temporality: 'cumulative',
    points: [
      { attributes: { ...route, 'http.response.status_code': 200 }, count: 1, explicitBounds: [10, 20] },
      { count: 1 }
    ]
  })
  t.same(named('http.server.request.duration')?.points[1]?.attributes, { ...request, 'http.response.status_code': 404 })
  t.match(named('http.server.active_requests'), {
    ...{ unit: '{request}', type: 'sum', isMonotonic: false, temporality: 'cumulative' },
    points: [{ attributes: route, startTimeMs: START, value: 0 }, { value: 0 }]
  })
  t.match(named('http.server.response.body.size'), { unit: 'By', points: [{ attributes: route, sum: 4 }, {}] })
  t.match(named('http.server.request.body.size'), { unit: 'By', points: [{ attributes: route, sum: 0 }, {}] })
})

test('keeps the names of all other metrics, and leaves the target to the resource', async (t) => {
  const app = await service()
  app.metrics.counter({ name: 'work_seconds_total', help: 'W.', labelNames: ['kind', 'size'] }).inc({ kind: 'a' }, 2)
  new app.metrics.client.Summary({
    name: 'theirs',
    help: 'T.',
    percentiles: [0.5],
    registers: [app.metrics.registry]
  }).observe(1)
  await app.inject('/metrics')
  const points = source()(await families(app), 'cumulative', 5_000)
  t.same(
    points.find(({ name }) => name === 'work_seconds_total'),
    {
      ...{ name: 'work_seconds_total', description: 'W.', unit: 's', type: 'sum', isMonotonic: true },
      temporality: 'cumulative',
      points: [{ attributes: { kind: 'a' }, startTimeMs: START, timeMs: 5_000, value: 2, exemplars: [] }]
    }
  )
  t.match(
    points.find(({ name }) => name === 'theirs'),
    { type: 'summary', points: [{ count: 1, sum: 1, quantiles: [{ quantile: 0.5, value: 1 }] }] }
  )
  t.match(
    points.find(({ name }) => name === 'process_resident_memory_bytes'),
    { type: 'gauge', unit: 'By' }
  )
  t.notOk(points.some(({ name }) => name === 'target_info'))
})

test('sends the exemplar of a request once, in the bucket of its value', async (t) => {
  const app = await service()
  await app.inject('/orders/1')
  const toPoints = source()
  for (const exemplars of [[TRACE], []]) {
    const duration = await family(app, 'http_server_request_duration_seconds')
    const [metric] = toPoints([duration], 'cumulative', Date.now() + 1)
    const [point] = metric?.type === 'histogram' ? metric.points : []
    t.same(point?.bucketCounts, [1, 0, 0])
    t.same(
      point?.exemplars?.map(({ traceId, spanId }) => ({ traceId, spanId })),
      exemplars
    )
  }
})

/** The one point of the metric that has this name, if it changed. */
function pointOf(metrics: Metric[], name: string) {
  const metric = metrics.find((metric) => metric.name === name)
  const [point] = metric?.points ?? []
  return point as (HistogramPoint & NumberPoint) | undefined
}

test('deltas add up to the cumulative values: counts exactly, sums but for rounding', async (t) => {
  const app = await service()
  const work = app.metrics.histogram({ name: 'work', help: 'W.', labelNames: ['kind'], buckets: [0.1, 0.5] })
  const [changes, buckets] = [source(), [0, 0, 0]]
  let [count, sum, end] = [0, 0, START]
  for (let round = 1; round <= 100; round++) {
    for (let n = 0; n < round % 7; n++) work.observe({ kind: 'a' }, (((round * 31 + n * 17) % 100) - 20) / 99)
    const point = pointOf(changes([await family(app, 'work')], 'delta', START + round), 'work')
    if (!point) continue
    t.ok(point.startTimeMs === end || round % 7 === 1, 'begins at the last collection')
    end = point.timeMs
    count += point.count
    sum += point.sum
    for (const [index, change] of point.bucketCounts.entries()) buckets[index] = (buckets[index] ?? 0) + change
  }
  const whole = pointOf(source()([await family(app, 'work')], 'cumulative', 9_000), 'work')
  t.match(whole, { count, bucketCounts: buckets, startTimeMs: START })
  t.ok(Math.abs(sum - (whole?.sum ?? 0)) < 1e-12)
})

const values = (value: number, kind = 'a'): Sample => ({ labels: { kind }, value })
const RESTARTS: [title: string, second: Sample[], startTimeMs: number, value: number][] = [
  ['goes on from the start of the app', [values(5)], START, 5],
  ['begins anew where a counter was reset', [values(2)], 2_000, 2],
  ['begins a series where it was not there before', [values(3, 'b')], 2_000, 3]
]

for (const [title, second, startTimeMs, value] of RESTARTS) {
  test(`a cumulative series ${title}`, async (t) => {
    const toPoints = source()
    toPoints([counter(values(4))], 'cumulative', 2_000)
    t.match(toPoints([counter(...second)], 'cumulative', 3_000), [{ points: [{ startTimeMs, timeMs: 3_000, value }] }])
  })
}

test('counts nothing twice when a metric was left out of one collection', async (t) => {
  const toPoints = source()
  toPoints([counter(values(4))], 'delta', 2_000)
  t.same(toPoints([], 'delta', 3_000), [])
  t.match(toPoints([counter(values(6))], 'delta', 4_000), [
    { points: [{ startTimeMs: 2_000, timeMs: 4_000, value: 2 }] }
  ])
})

const observed = (preference: TemporalityPreference, isObserved: boolean) =>
  source()([{ ...counter(values(1)), isObserved }], preference, 2_000)

test('takes deltas as preferred, with low memory for what is not observed only', async (t) => {
  t.match(observed('delta', true), [{ temporality: 'delta' }])
  t.match(observed('lowmemory', false), [{ temporality: 'delta' }])
  t.match(observed('lowmemory', true), [{ temporality: 'cumulative' }])
  t.match(observed('cumulative', false), [{ temporality: 'cumulative' }])
})

test('leaves out values that are not finite, and deltas of nothing', async (t) => {
  const toPoints = source()
  const gauge = { name: 'heat', help: 'H.', type: 'gauge', values: [values(Number.NaN), values(1, 'b')] }
  t.match(toPoints([gauge], 'delta', 2_000), [{ type: 'gauge', points: [{ attributes: { kind: 'b' }, value: 1 }] }])
  t.match(toPoints([counter(values(1))], 'delta', 3_000), [{ points: [{ value: 1 }] }])
  t.same(toPoints([counter(values(1))], 'delta', 4_000), [])
})

test('begins a series anew that was missing from a collection', async (t) => {
  const windows = openWindows(START)
  const next = (now: number, values?: number[]) => {
    windows.begin(now)
    const window = values && windows.next('jobs', 'a', values, 1, false)
    windows.sweep('jobs')
    return window?.startTimeMs
  }
  t.same([next(2_000, [1]), next(3_000, [2]), next(4_000), next(5_000, [3])], [START, START, undefined, 4_000])
})
