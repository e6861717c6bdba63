import { constants, PerformanceObserver } from 'node:perf_hooks'
import { turn } from '@fastify-observability/observation/internal'
import client, { type Registry } from '@prometheus-io/client'
import type { FastifyInstance } from 'fastify'
import fastifyMetrics from 'fastify-metrics'

// Gauges named like counters, and an average over the whole life of the process: `promtool check metrics` is right.
const LEFT_OUT = /_total$|^nodejs_eventloop_utilization_(summary|histogram)$/
const DAY_MS = 86_400_000
// Each sample of the event loop's delay wakes the process; every 10 ms, the client's default, is most of an idle one's work.
const LAG_SAMPLE_MS = 20
const LAG = 'nodejs_eventloop_lag_seconds'
const GC = 'nodejs_gc_duration_seconds'
const GC_KINDS = new Map<unknown, string>([
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb']
])
// Collecting empties the histogram of delays: of two scrapers, the second would find nothing.
const COLLECT_MS = 1_000

// The client's timers and observers cannot be stopped: one set of them a process, whatever apps come and go.
let runtime: Registry | undefined

/** Starts the metrics of the process. Returns the function that registers them in an app's registry. */
export async function startRuntime(app: FastifyInstance): Promise<(registry: Registry) => void> {
  const shared = runtime ?? new client.Registry()
  const isFirst = runtime === undefined
  runtime = shared
  await app.register(fastifyMetrics.default, {
    promClient: client,
    endpoint: null,
    routeMetrics: { enabled: false },
    defaultMetrics: {
      enabled: isFirst,
      register: shared,
      eventLoopMonitoringPrecision: LAG_SAMPLE_MS,
      eventLoopUtilizationTimeout: DAY_MS
    }
  })
  if (isFirst) {
    measureLag(shared)
    addUtilization(shared)
    replaceGc(shared)
  }
  return (registry) => {
    for (const { name, type } of shared.getMetricsAsArray()) {
      const metric = shared.getSingleMetric(name)
      if (metric && (type === 'counter' || !LEFT_OUT.test(name))) registry.registerMetric(metric)
    }
  }
}

function addUtilization(registry: Registry): void {
  let last = performance.eventLoopUtilization()
  let lastAt = Number.NEGATIVE_INFINITY
  new client.Gauge({
    name: 'nodejs_eventloop_utilization_ratio',
    help: 'Share of the time since the last scrape that the event loop was busy.',
    aggregator: 'average',
    registers: [registry],
    collect() {
      if (performance.now() - lastAt < COLLECT_MS) return
      lastAt = performance.now()
      const now = performance.eventLoopUtilization()
      this.set(performance.eventLoopUtilization(now, last).utilization)
      last = now
    }
  })
}

// The client counts one collection of each batch that Node reports; under load that is every other collection.
function replaceGc(registry: Registry): void {
  registry.removeSingleMetric(GC)
  const duration = new client.Histogram({
    name: GC,
    help: 'Garbage collection duration by kind, one of major, minor, incremental or weakcb.',
    labelNames: ['kind'],
    buckets: [0.001, 0.01, 0.1, 1, 2, 5],
    registers: [registry]
  })
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const detail = 'detail' in entry ? entry.detail : undefined
      const kind = typeof detail === 'object' && detail !== null && 'kind' in detail ? detail.kind : undefined
      duration.observe({ kind: GC_KINDS.get(kind) ?? 'other' }, entry.duration / 1000)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
}

/**
 * Leaves the gauges of the event loop's delay out while nothing is measured: the minimum of no delays is 292 years, their
 * mean is not a number.
 */
function measureLag(registry: Registry): void {
  const lag = registry.getMetricsAsArray().find(({ name }) => name === LAG)
  const mean = registry.getSingleMetric('nodejs_eventloop_lag_mean_seconds')
  if (!lag || !mean) return
  const { collect } = lag
  let lastAt = Number.NEGATIVE_INFINITY
  lag.collect = async function (this: unknown) {
    if (performance.now() - lastAt < COLLECT_MS) return
    lastAt = performance.now()
    collect.call(this)
    // The client measures the lag in an immediate, which comes before this one.
    await turn()
  }
  const getMean = mean.get.bind(mean)
  for (const { name } of registry.getMetricsAsArray()) {
    const metric = registry.getSingleMetric(name)
    if (!metric || name === LAG || !name.startsWith('nodejs_eventloop_lag_')) continue
    const get = metric.get.bind(metric)
    metric.get = async () => {
      const isMeasured = (await getMean()).values.some(({ value }) => Number.isFinite(value))
      const family = await get()
      return lastAt > 0 && isMeasured ? family : { ...family, values: [] }
    }
  }
}
