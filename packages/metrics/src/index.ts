import observation, { type Series } from '@fastify-observability/observation'
import {
  atMostEvery,
  countBy,
  parseOptions,
  registryOf,
  resolveService,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation/internal'
import client, { type Registry } from '@prometheus-io/client'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'
import {
  type Counter,
  type CounterOptions,
  createFactory,
  type DropReason,
  type Gauge,
  type GaugeOptions,
  type Histogram,
  type HistogramOptions,
  isAscending,
  type Labels,
  showMetric
} from './business.ts'
import { joinCluster } from './cluster.ts'
import { findOtherClients } from './copies.ts'
import type { Family } from './exposition.ts'
import { observeOutgoing } from './outgoing.ts'
import { createPools, type PoolState } from './pool.ts'
import { type CustomLabel, observeRequests } from './requests.ts'
import { startRuntime } from './runtime.ts'
import { createCollector, serveMetrics } from './scrape.ts'

// Also loads the package's own declaration of `app.metrics` for those who install this one.
export type { IFastifyMetrics } from 'fastify-metrics'
export type { Counter, CounterOptions, Gauge, GaugeOptions, Histogram, HistogramOptions, Labels } from './business.ts'
export { clusterMetrics } from './cluster.ts'
export type { PoolState } from './pool.ts'
export type { CustomLabel } from './requests.ts'

// fastify-metrics declares `app.metrics`; this is the same object with more on it.
declare module 'fastify-metrics/dist/types.js' {
  interface IFastifyMetrics extends Metrics {}
}

/** `app.metrics`: business metrics, in the registry that `/metrics` shows. Asking twice for a name gives the first. */
export interface Metrics {
  registry: Registry
  /** @throws TypeError when the name, the labels or their meaning are wrong. */
  counter<const Label extends string = never>(options: CounterOptions<Label>): Counter<Label>
  /** @throws TypeError when the name, the labels or their meaning are wrong. */
  gauge<const Label extends string = never>(options: GaugeOptions<Label>): Gauge<Label>
  /** @throws TypeError when the name, the labels, the buckets or their meaning are wrong. */
  histogram<const Label extends string = never>(options: HistogramOptions<Label>): Histogram<Label>
  /**
   * Runs `fn` and observes the seconds until it returns, throws or its promise settles. What is only like a promise, as a
   * query builder's query, wants an `async` function around it.
   */
  time<Label extends string, Result>(histogram: Histogram<Label>, labels: Labels<Label>, fn: () => Result): Result
  /** Shows a connection pool as `db_client_connection_count`. The same name again replaces the first. */
  observePool(name: string, state: () => PoolState): void
}

export interface MetricsOptions {
  service?: ServiceOptions
  /** Where Prometheus scrapes. @default '/metrics' */
  path?: string
  /** Another app that serves the path instead of this one. @default none */
  management?: FastifyInstance
  /** Upper bounds in seconds of request durations and times to first byte. @default those of the semantic conventions */
  durationBuckets?: readonly number[]
  /** Upper bounds of the sizes of bodies, in bytes. @default 100 to 10,000,000 in powers of ten */
  bodySizeBuckets?: readonly number[]
  /** `true`: `2xx` instead of `200`. @default false */
  groupStatusCodes?: boolean
  /** What is not in the request metrics: paths, routes, all below a path (`/internal/*`), expressions. @default [] */
  exclude?: readonly (string | RegExp)[]
  /** More labels of the request's duration, by name. @default {} */
  customLabels?: Readonly<Record<string, CustomLabel>>
  /** Label sets of one metric; what comes after has `__overflow__` in every label. @default 2000 */
  maxSeries?: number
  /** Values of one label of one metric; what comes after is `__overflow__`. @default 500 */
  maxLabelValues?: number
  /** Measures calls to other services; hosts that are not listed are `_OTHER`. @default false */
  outgoing?: { hosts: readonly string[] } | false
}

const NAME = '@fastify-observability/metrics'
const MINUTE_MS = 60_000
const PATH_RULE = 'a path that starts with "/"'
const BUCKETS_RULE = 'ascending numbers'
const COUNT_RULE = 'a positive whole number'
const LABELS_RULE = 'functions by the names of labels'
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/
const buckets = v.optional(v.custom<readonly number[]>(isBuckets, BUCKETS_RULE))
const count = v.optional(v.pipe(v.number(COUNT_RULE), v.integer(COUNT_RULE), v.minValue(1, COUNT_RULE)))
const schema = v.strictObject({
  service: serviceSchema,
  path: v.optional(v.pipe(v.string(PATH_RULE), v.startsWith('/', PATH_RULE))),
  management: v.optional(
    v.custom<FastifyInstance>(
      (value) => typeof value === 'object' && value !== null && 'listen' in value,
      'a Fastify app'
    )
  ),
  durationBuckets: buckets,
  bodySizeBuckets: buckets,
  groupStatusCodes: v.optional(v.boolean()),
  exclude: v.optional(
    v.array(v.union([v.string(), v.instance(RegExp)], 'paths or expressions'), 'paths or expressions')
  ),
  customLabels: v.optional(
    v.record(
      v.pipe(v.string(), v.regex(LABEL_NAME, LABELS_RULE)),
      v.custom<CustomLabel>((value) => typeof value === 'function', LABELS_RULE),
      LABELS_RULE
    )
  ),
  maxSeries: count,
  maxLabelValues: count,
  outgoing: v.optional(
    v.union([v.literal(false), v.strictObject({ hosts: v.array(v.string()) })], 'false or { hosts: [names] }')
  )
})

function isBuckets(value: unknown): boolean {
  return Array.isArray(value) && isAscending(value)
}

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
    outgoing = false
  } = parseOptions<MetricsOptions>(NAME, schema, options)

  await app.register(observation)
  const { observe, publish, published, report: reportError } = registryOf(app)
  const registry = new client.Registry(client.prometheusContentType)
  const report = (error: unknown): void => reportError(NAME, error)
  const overflows = countBy('metric')
  const drops = countDrops()
  const mayLogDrop = atMostEvery(MINUTE_MS)
  const factory = createFactory({
    registry,
    limits: { maxSeries, maxLabelValues },
    overflowed(metric) {
      if (overflows.get(metric) === 0) {
        app.log.warn({ metric }, 'metrics: series limit reached, further label sets go to __overflow__')
      }
      overflows.add(metric)
    },
    dropped(metric, reason) {
      drops.add(metric, reason)
      if (mayLogDrop()) app.log.warn({ metric, reason }, 'metrics: dropped an invalid value of a metric')
    }
  })
  const pools = createPools((pool, error) => report(new Error(`the pool "${pool}" cannot be read`, { cause: error })))

  // In a scope of its own, because fastify-metrics decorates `metrics` too.
  await app.register(async (scope) => {
    const showRuntime = await startRuntime(scope)
    showRuntime(registry)
    app.decorate('metrics', {
      client,
      initMetricsInRegistry: () => showRuntime(registry),
      registry,
      ...factory,
      time,
      observePool(name, state) {
        if (pools.pools.size === 0)
          show(pools.read().name, pools.read().help, ['state', 'pool'], async () => pools.read())
        pools.pools.set(name, state)
      }
    })
  })

  function show(name: string, help: string, labelNames: readonly string[], get: () => Promise<Family>): void {
    showMetric(registry, client.Gauge, { face: { name, help, aggregator: 'sum' }, labelNames }, get)
  }

  // Parts may publish at any time.
  let shown = 0
  function showPublished(): void {
    for (const series of published.slice(shown)) {
      shown++
      try {
        show(series.name, series.help, series.labelNames, async () => familyOf(series))
      } catch (error) {
        report(error)
      }
    }
  }

  const { name, version, environment } = resolveService(service)
  const target = { service_name: name, service_version: version ?? '', deployment_environment_name: environment }
  show('target_info', 'What is measured.', Object.keys(target), async () => ({
    name: 'target_info',
    help: 'What is measured.',
    type: 'gauge',
    aggregator: 'first',
    values: [{ labels: target, value: 1 }]
  }))
  observe(
    observeRequests(factory, { durationBuckets, bodySizeBuckets, groupStatusCodes, exclude, customLabels }, report)
  )
  publish({
    name: 'metrics_series_overflow_total',
    help: 'Values that a metric had no series of their own for.',
    type: 'counter',
    labelNames: ['metric'],
    collect: overflows.collect
  })
  publish({
    name: 'metrics_values_dropped_total',
    help: 'Values that a metric could not keep.',
    type: 'counter',
    labelNames: ['metric', 'reason'],
    collect: drops.collect
  })
  if (outgoing) {
    const stop = observeOutgoing(factory, outgoing.hosts)
    app.addHook('onClose', async () => stop())
  }

  app.addHook('onRoute', ({ url, config }) => {
    const { durationBuckets } = config?.observability?.metrics || {}
    if (durationBuckets === undefined || isBuckets(durationBuckets)) return
    throw new TypeError(`${NAME}: the route ${url} must have ascending numbers for metrics.durationBuckets`)
  })
  app.addHook('onReady', async () => {
    showPublished()
    for (const path of findOtherClients()) {
      app.log.warn({ path }, 'metrics: a second Prometheus client is loaded; what it counts is not on /metrics')
    }
  })

  const read = createCollector(registry, (metric, error) => {
    report(new Error(`the metric ${metric} cannot be collected`, { cause: error }))
  })
  const collect = (): Promise<Family[]> => {
    showPublished()
    return read()
  }
  serveMetrics(management, path, collect)
  const leave = joinCluster(collect)
  // The runtime's observers live as long as the process, and would keep the app with them.
  app.addHook('onClose', async () => {
    await leave()
    registry.clear()
  })
}

function time<Label extends string, Result>(
  histogram: Histogram<Label>,
  labels: Labels<Label>,
  fn: () => Result
): Result {
  const stop = histogram.startTimer(labels)
  let result: Result
  try {
    result = fn()
  } catch (error) {
    stop()
    throw error
  }
  if (result instanceof Promise)
    result.then(
      () => stop(),
      () => stop()
    )
  else stop()
  return result
}

function familyOf({ name, help, type, labelNames, collect }: Series): Family {
  const values = Array.from(collect(), ([labels, value]) => ({
    labels: Object.fromEntries(labelNames.map((label) => [label, labels[label] ?? ''])),
    value
  }))
  return { name, help, type, aggregator: type === 'gauge' ? aggregatorOf(name) : 'sum', values }
}

// Of several processes: as healthy as the least healthy, as slow as the slowest.
function aggregatorOf(gauge: string): string {
  if (gauge.endsWith('_up')) return 'min'
  return gauge.endsWith('_seconds') ? 'max' : 'sum'
}

/** Counts dropped values by metric and reason. */
function countDrops() {
  const counts = new Map<string, { labels: { metric: string; reason: DropReason }; value: number }>()
  return {
    add(metric: string, reason: DropReason): void {
      const key = `${metric} ${reason}`
      const entry = counts.get(key) ?? { labels: { metric, reason }, value: 0 }
      entry.value++
      counts.set(key, entry)
    },
    collect: () => Array.from(counts.values(), ({ labels, value }) => [labels, value] as const)
  }
}

export default fp(metrics, { name: NAME, fastify: '^5.12.0' })
