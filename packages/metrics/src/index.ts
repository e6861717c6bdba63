import observation, { type Series } from '@fastify-observability/observation'
import {
  documented,
  lostIn,
  parseOptions,
  registryOf,
  resolveService,
  type ServiceOptions,
  withDocs
} from '@fastify-observability/observation/internal'
import client, { type Registry } from '@prometheus-io/client'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { joinCluster } from './cluster.ts'
import { findOtherClients } from './duplicate-clients.ts'
import { createCollector } from './exposition/collector.ts'
import type { Family } from './exposition/format.ts'
import { serveMetrics } from './exposition/route.ts'
import { createFactory, type Factory } from './instruments/factory.ts'
import type { Histogram } from './instruments/histogram.ts'
import type { Labels } from './instruments/labels.ts'
import { countLosses } from './losses.ts'
import { isBuckets, type MetricsOptions, schema } from './options.ts'
import { pushPoints } from './otlp/push.ts'
import { createRegistry } from './registry.ts'
import { observeJobs } from './sources/jobs.ts'
import { observeOutgoing } from './sources/outgoing.ts'
import { createPools, type PoolState } from './sources/pools.ts'
import { registerPublished } from './sources/published.ts'
import { observeRequests } from './sources/requests.ts'
import { startRuntime } from './sources/runtime.ts'
import { time } from './timing.ts'

// Also loads the package's own declaration of `app.metrics` for those who install this one.
export type { IFastifyMetrics } from 'fastify-metrics'
export { type ClusterMetricsOptions, clusterMetrics } from './cluster.ts'
export type { Counter, CounterOptions } from './instruments/counter.ts'
export type { Gauge, GaugeOptions } from './instruments/gauge.ts'
export type { Histogram, HistogramOptions } from './instruments/histogram.ts'
export type { Labels } from './instruments/labels.ts'
export type { MetricsOptions } from './options.ts'
export type { PoolState } from './sources/pools.ts'
export type { CustomLabel } from './sources/requests.ts'

// fastify-metrics declares `app.metrics`; this is the same object with more on it.
declare module 'fastify-metrics/dist/types.js' {
  interface IFastifyMetrics extends Metrics {}
}

/** `app.metrics`: metrics of the application's own, in the registry of `/metrics`. The same name again gives the first. */
export interface Metrics extends Factory {
  /** The client's registry of `/metrics`, for code that takes one. */
  registry: Registry
  /**
   * Runs `fn` and observes the seconds until it returns, throws or its promise settles. A thenable, such as a query
   * builder's query, is observed when it first settles.
   */
  time<Label extends string, Result>(histogram: Histogram<Label>, labels: Labels<Label>, fn: () => Result): Result
  /** Adds a connection pool to `db_client_connection_count`. The same name again replaces the first. */
  observePool(name: string, state: () => PoolState): void
}

const NAME = '@fastify-observability/metrics'
const CLOSE_MS = 5_000
const DUPLICATE_CLIENT =
  'metrics: a second Prometheus client is loaded and its metrics are not on /metrics; install one copy of ' +
  '@prometheus-io/client, or use app.metrics.client with app.metrics.registry'

const TAKEN =
  `${NAME}: app.metrics is there already, as fastify-metrics makes it; register that in a scope of its own or leave it ` +
  'out (its client and runtime metrics come with this package), or set the option metrics: false'

async function metrics(app: FastifyInstance, options: MetricsOptions): Promise<void> {
  const {
    service,
    path = '/metrics',
    management = app,
    durationBuckets,
    bodySizeBuckets,
    groupStatusCodes = false,
    exclude = [],
    customLabels = {},
    maxSeries = 2000,
    maxLabelValues = 500,
    outgoing = false,
    otlp
  } = parseOptions<MetricsOptions>(NAME, schema, options)

  await app.register(observation)
  const {
    admit,
    claims,
    jobs,
    observe,
    publish,
    published,
    onFlush,
    descriptions,
    feeds,
    report: reportError
  } = registryOf(app)
  if (!admit(NAME)) return
  if (app.hasDecorator('metrics')) throw documented(new Error(TAKEN), 'registered-late-or-twice')
  claims.set('metrics', TAKEN)
  const report = (error: unknown): void => reportError(NAME, error)
  const appRegistry = createRegistry()
  const { registry } = appRegistry
  const { series: losses, ...onLoss } = countLosses(app)
  const instruments = new Map<string, Pick<Histogram, 'read'>>()
  const factory = createFactory({
    registry,
    limits: { maxSeries, maxLabelValues },
    declared: (metric) => void instruments.set(metric.name, metric),
    ...onLoss
  })
  const observePool = createPools(publish, (pool, error) =>
    report(new Error(`the pool "${pool}" cannot be read`, { cause: error }))
  )

  // In a scope of its own, because fastify-metrics decorates `metrics` too.
  await app.register(async (scope) => {
    const registerRuntime = await startRuntime(scope)
    registerRuntime(registry)
    app.decorate('metrics', {
      client,
      initMetricsInRegistry: () => registerRuntime(registry),
      registry,
      ...factory,
      time,
      observePool
    })
  })

  observe(
    observeRequests(factory, { durationBuckets, bodySizeBuckets, groupStatusCodes, exclude, customLabels }, report)
  )
  observe(observeJobs(factory))
  for (const series of [targetInfo(service), ...losses]) publish(series)
  if (outgoing) {
    const stop = observeOutgoing(factory, outgoing.hosts)
    app.addHook('onClose', async () => {
      await jobs.close()
      stop()
    })
  }

  app.addHook('onRoute', ({ url, config }) => {
    const { durationBuckets } = config?.observability?.metrics || {}
    if (durationBuckets === undefined || isBuckets(durationBuckets)) return
    const rule = 'must have ascending numbers for metrics.durationBuckets'
    throw documented(new TypeError(`${NAME}: the route ${url} ${rule}`), 'wrong-options')
  })
  // Parts may publish at any time.
  const registerNew = registerPublished(registry, published, report)
  app.addHook('onReady', async () => {
    registerNew()
    for (const path of findOtherClients()) {
      app.log.warn(withDocs('two-copies-of-opentelemetry', { path }), DUPLICATE_CLIENT)
    }
  })

  const read = createCollector(appRegistry, (metric, error) => {
    report(new Error(`the metric ${metric} cannot be collected`, { cause: error }))
  })
  const collect = (): Promise<Family[]> => {
    registerNew()
    return read()
  }
  serveMetrics(management, path, collect)
  let isWatched = false
  let last: Family[] | undefined
  await feeds.points.offer((receive) => {
    isWatched = true
    const readNow = (): Family[] => Array.from(instruments.values(), (instrument) => instrument.read())
    receive({ read: async () => last ?? collect(), readNow })
    return () => undefined
  })
  const leave = joinCluster(collect)
  const points = await pushPoints(otlp, app, resolveService(service), collect)
  descriptions.add('points', () => ({
    to: [path, ...(points ? [points.endpoint] : [])],
    hint: points ? undefined : 'OTEL_METRICS_EXPORTER=otlp pushes points over OTLP too'
  }))
  if (points) {
    for (const series of points.series) publish(series)
    descriptions.addDeliveries(() => [{ signal: 'points', to: points.endpoint, ...points.state() }])
    onFlush({ signal: 'points', flush: points.flush, dropped: () => lostIn(points.series) })
  }
  // The runtime's observers live as long as the process, and would keep the app with them.
  app.addHook('onClose', async () => {
    await jobs.close()
    await leave()
    await points?.close(CLOSE_MS)
    if (isWatched) last = await collect()
    registry.clear()
  })
}

/** @see https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md#supporting-target-metadata-in-both-push-based-and-pull-based-systems */
function targetInfo(service: ServiceOptions | undefined): Series {
  const { name, version, environment } = resolveService(service)
  const labels = { service_name: name, service_version: version ?? '', deployment_environment_name: environment }
  return {
    name: 'target_info',
    help: 'Target metadata.',
    type: 'gauge',
    labelNames: Object.keys(labels),
    collect: () => [[labels, 1]]
  }
}

/** Measures requests and the runtime, and serves `/metrics`. */
export default fp(metrics, { name: NAME, fastify: '^5.10.0' })
