import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { exportPoints, type Metric } from '../src/index.ts'

const TIME = { startTimeMs: 1_790_000_000_000, timeMs: 1_790_000_060_000 }
const traceId = 'a'.repeat(32)
const spanId = 'b'.repeat(16)
const METRICS: Metric[] = [
  { name: 'queue.size', type: 'gauge', points: [{ ...TIME, attributes: { queue: 'mail' }, value: -1.5 }] },
  {
    name: 'orders',
    description: 'Orders.',
    unit: '1',
    type: 'sum',
    isMonotonic: true,
    temporality: 'cumulative',
    points: [{ ...TIME, attributes: {}, value: 7, exemplars: [{ timeMs: TIME.timeMs, value: 1, traceId, spanId }] }]
  },
  {
    name: 'http.server.request.duration',
    unit: 's',
    type: 'histogram',
    temporality: 'delta',
    points: [
      {
        ...TIME,
        attributes: { 'http.route': '/' },
        count: 2 ** 33 + 3,
        sum: 0.75,
        bucketCounts: [1, 2 ** 33, 2],
        explicitBounds: [0.005, 0.01],
        exemplars: [{ attributes: { kind: 'slow' }, timeMs: TIME.timeMs, value: 0.5, traceId, spanId }]
      }
    ]
  },
  {
    name: 'gc',
    type: 'summary',
    points: [{ ...TIME, attributes: {}, count: 2, sum: 3, quantiles: [{ quantile: 0.5, value: 1 }] }]
  }
]

function pushing(endpoint: string, collect: () => Metric[] = () => METRICS) {
  const warnings: unknown[] = []
  const log = { warn: (...line: unknown[]) => void warnings.push(line) }
  const service = { name: 'shop', version: '1.2.3', environment: 'test' }
  const scope = { name: 'test', version: '3.2.1' }
  return { warnings, ...exportPoints({ endpoint, service, scope, log, collect }) }
}

test('delivers gauges, sums, histograms and summaries with their exemplars', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  await pushing(collector.url).close(PATIENCE_MS)
  const exemplar = { traceId, spanId, timeMs: TIME.timeMs }
  t.match(collector.points, [
    { name: 'queue.size', type: 'gauge', value: -1.5, attributes: { queue: 'mail' }, ...TIME },
    {
      ...{ name: 'orders', description: 'Orders.', unit: '1', type: 'sum', value: 7 },
      ...{ isMonotonic: true, temporality: 'cumulative', exemplars: [{ ...exemplar, value: 1 }] }
    },
    {
      ...{ name: 'http.server.request.duration', unit: 's', type: 'histogram', temporality: 'delta' },
      ...{ count: 2 ** 33 + 3, sum: 0.75, bucketCounts: [1, 2 ** 33, 2], explicitBounds: [0.005, 0.01] },
      ...{ exemplars: [{ ...exemplar, value: 0.5, attributes: { kind: 'slow' } }] }
    },
    { name: 'gc', type: 'summary', count: 2, sum: 3, quantiles: [{ quantile: 0.5, value: 1 }] }
  ])
  t.match(collector.points[0]?.resource, { 'service.name': 'shop', 'telemetry.sdk.language': 'nodejs' })
  t.same(collector.points[0]?.scope, { name: 'test', version: '3.2.1' })
})

test('pushes every OTEL_METRIC_EXPORT_INTERVAL, and the last values at the end', async (t) => {
  withEnv(t, { OTEL_METRIC_EXPORT_INTERVAL: '20' })
  const collector = await startCollector()
  t.teardown(() => collector.close())
  let value = 0
  const points = pushing(collector.url, () => [
    { name: 'n', type: 'gauge', points: [{ attributes: {}, timeMs: 1, value: ++value }] }
  ])
  await collector.called(3, 'metrics')
  await points.close(PATIENCE_MS)
  t.same(
    collector.points.map(({ value }) => value),
    Array.from({ length: value }, (_, index) => index + 1)
  )
})

test('delivers the values of now by a flush, whatever is under way', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  let value = 1
  const points = pushing(collector.url, () => [
    { name: 'n', type: 'gauge', points: [{ attributes: {}, timeMs: 1, value }] }
  ])
  const first = points.flush(PATIENCE_MS)
  value = 2
  await Promise.all([points.flush(PATIENCE_MS), points.flush(PATIENCE_MS)])
  t.same(
    collector.points.map(({ value }) => value),
    [1, 2]
  )
  await first
  await points.close(PATIENCE_MS)
})

test('asks for the temporality that the environment prefers', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'DELTA' })
  const asked: unknown[] = []
  const log = { warn: () => undefined }
  const service = { name: 'shop', version: undefined, environment: 'test' }
  const collect = (temporality: unknown) => {
    asked.push(temporality)
    return []
  }
  await exportPoints({ endpoint: 'http://127.0.0.1:1', service, scope: { name: 'test' }, log, collect }).close(1_000)
  t.same(asked, ['delta'])
})

test('survives values that cannot be collected', async (t) => {
  const points = pushing('http://127.0.0.1:1', () => {
    throw new Error('broken')
  })
  await points.close(1_000)
  t.match(points.warnings, [[{ err: { message: 'broken' } }, 'metrics could not be collected']])
})

test('leaves exemplars out where the environment wants none', async (t) => {
  withEnv(t, { OTEL_METRICS_EXEMPLAR_FILTER: 'always_off' })
  const collector = await startCollector()
  t.teardown(() => collector.close())
  await pushing(collector.url).close(PATIENCE_MS)
  t.equal(collector.points.length, 4)
  t.same(
    collector.points.flatMap(({ exemplars }) => exemplars),
    []
  )
})

test('names a histogram aggregation that it does not have, and goes on', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: 'base2_exponential_bucket_histogram' })
  const points = pushing('http://127.0.0.1:1', () => [])
  await points.close(1_000)
  t.match(points.warnings, [[{}, /^OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION must be explicit_bucket/]])
})
