import observation, {
  parseOptions,
  type Series,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation'
import client, {
  type Counter,
  type CounterConfiguration,
  type Gauge,
  type GaugeConfiguration,
  type Histogram,
  type HistogramConfiguration,
  type Registry
} from '@prometheus-io/client'
import type { FastifyInstance } from 'fastify'
import fastifyMetrics from 'fastify-metrics'
import fp from 'fastify-plugin'
import * as v from 'valibot'

// Also loads the package's own declaration of `app.metrics` for those who install this one.
export type { IFastifyMetrics } from 'fastify-metrics'

// fastify-metrics declares `app.metrics`; this is the same object with more on it.
declare module 'fastify-metrics/dist/types.js' {
  interface IFastifyMetrics extends Metrics {}
}

/** `app.metrics`: business metrics, in the registry that `/metrics` shows. Asking twice for a name gives the first. */
export interface Metrics {
  registry: Registry
  counter<Label extends string = never>(options: CounterOptions<Label>): Counter<Label>
  gauge<Label extends string = never>(options: GaugeOptions<Label>): Gauge<Label>
  histogram<Label extends string = never>(options: HistogramOptions<Label>): Histogram<Label>
}

export type CounterOptions<Label extends string = never> = Omit<CounterConfiguration<Label>, 'registers'>
export type GaugeOptions<Label extends string = never> = Omit<GaugeConfiguration<Label>, 'registers'>
export type HistogramOptions<Label extends string = never> = Omit<HistogramConfiguration<Label>, 'registers'>

export interface MetricsOptions {
  service?: ServiceOptions
  /** Where Prometheus scrapes. @default '/metrics' */
  path?: string
}

const NAME = '@fastify-observability/metrics'
const PATH_RULE = 'a path that starts with "/"'
const schema = v.strictObject({
  service: serviceSchema,
  path: v.optional(v.pipe(v.string(PATH_RULE), v.startsWith('/', PATH_RULE)))
})

/** @see https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration */
const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

async function metrics(app: FastifyInstance, options: MetricsOptions): Promise<void> {
  const { path = '/metrics' } = parseOptions<MetricsOptions>(NAME, schema, options)

  await app.register(observation)
  const registry = new client.Registry(client.prometheusContentType)
  // In a scope of its own, because fastify-metrics decorates `metrics` too.
  await app.register(async (scope) => {
    await scope.register(fastifyMetrics.default, {
      promClient: client,
      endpoint: null,
      routeMetrics: { enabled: false },
      defaultMetrics: { enabled: true, register: registry }
    })
    const runtime = scope.metrics
    app.decorate('metrics', {
      client: runtime.client,
      initMetricsInRegistry: () => runtime.initMetricsInRegistry(),
      registry,
      counter: <Label extends string>(options: CounterOptions<Label>) => declare(client.Counter<Label>, options),
      gauge: <Label extends string>(options: GaugeOptions<Label>) => declare(client.Gauge<Label>, options),
      histogram: <Label extends string>(options: HistogramOptions<Label>) => declare(client.Histogram<Label>, options)
    })
  })

  function declare<Options extends { name: string }, Kind>(
    kind: new (options: Options & { registers: Registry[] }) => Kind,
    options: Options
  ): Kind {
    // Another kind under the same name is refused by the client.
    const known: unknown = registry.getSingleMetric(options.name)
    return known instanceof kind ? known : new kind({ ...options, registers: [registry] })
  }

  const { counter, gauge, histogram } = app.metrics

  // The client collects on every scrape; a counter of its own has to be set back to take the part's value.
  function show({ name, help, type, labelNames, collect }: Series): void {
    const declare = type === 'counter' ? counter : gauge
    declare({
      name,
      help,
      labelNames: [...labelNames],
      collect() {
        this.reset()
        for (const [values, count] of collect()) {
          this.inc(Object.fromEntries(labelNames.map((label, index) => [label, values[index] ?? ''])), count)
        }
      }
    })
  }

  const duration = histogram({
    name: 'http_server_request_duration_seconds',
    help: 'Duration of HTTP server requests.',
    labelNames: ['http_request_method', 'http_route', 'http_response_status_code', 'error_type'],
    buckets: DURATION_BUCKETS
  })
  const active = gauge({
    name: 'http_server_active_requests',
    help: 'HTTP server requests in progress.',
    labelNames: ['http_request_method', 'http_route']
  })
  app.addHook('onReady', async () => {
    for (const series of app.observation.published) show(series)
  })

  app.observation.observe({
    name: NAME,
    start({ method, route }) {
      active.inc({ http_request_method: method, http_route: route })
    },
    end({ method, route }, { statusCode, errorType, durationMs }) {
      active.dec({ http_request_method: method, http_route: route })
      duration.observe(
        {
          http_request_method: method,
          http_route: route,
          http_response_status_code: String(statusCode),
          error_type: errorType ?? ''
        },
        durationMs / 1000
      )
    },
    malformed({ statusCode, errorType }) {
      const labels = { http_request_method: '_OTHER', http_route: 'unmatched', error_type: errorType }
      duration.observe({ ...labels, http_response_status_code: String(statusCode) }, 0)
    }
  })

  // The runtime's observers live as long as the process, and would keep the app with them.
  app.addHook('onClose', async () => registry.clear())

  app.get(
    path,
    { schema: { hide: true }, config: { observability: { log: 'failures', trace: false, shed: false } } },
    async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics())
  )
}

export default fp(metrics, { name: NAME, fastify: '^5.12.0' })
