import client, { type MetricObject, type Registry } from '@prometheus-io/client'
import type { FastifyInstance } from 'fastify'
import fastifyMetrics from 'fastify-metrics'

// Gauges named like counters, and an average over the whole life of the process: `promtool check metrics` is right.
const LEFT_OUT = /_total$|^nodejs_eventloop_utilization_(summary|histogram)$/
const DAY_MS = 86_400_000
// Two scrapers must not empty the histogram of delays under each other's hands.
const COLLECT_MS = 1_000

// The client's timers and observers cannot be stopped: one set of them a process, whatever apps come and go.
let runtime: Registry | undefined

/** Has the process's metrics measured. Returns the function that shows them in an app's registry. */
export async function startRuntime(app: FastifyInstance): Promise<(registry: Registry) => void> {
  const shared = runtime ?? new client.Registry()
  const isFirst = runtime === undefined
  runtime = shared
  await app.register(fastifyMetrics.default, {
    promClient: client,
    endpoint: null,
    routeMetrics: { enabled: false },
    defaultMetrics: { enabled: isFirst, register: shared, eventLoopUtilizationTimeout: DAY_MS }
  })
  if (isFirst) {
    const lag = shared.getMetricsAsArray().find(({ name }) => name === 'nodejs_eventloop_lag_seconds')
    if (lag) lag.collect = atMostEvery(COLLECT_MS, lag.collect)
    addUtilization(shared)
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

function atMostEvery(intervalMs: number, collect: MetricObject['collect']): MetricObject['collect'] {
  // At first there is nothing to collect: the smallest of no delays is 292 years.
  let lastAt = performance.now()
  return function (this: unknown) {
    if (performance.now() - lastAt < intervalMs) return
    lastAt = performance.now()
    return collect.call(this)
  }
}
