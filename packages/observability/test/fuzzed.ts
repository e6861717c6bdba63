import { join } from 'node:path'
import { currentObservation as observationOf } from '@fastify-observability/observation'
import fc, { type IAsyncProperty } from 'fast-check'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import observability, * as exported from '../src/index.ts'

/** Runs that have failed once, and are run first. A failure prints both numbers. */
const KEPT: Record<string, { seed: number; path: string }[]> = {
  withBaggage: [
    { seed: -644_691_719, path: '21' },
    { seed: 1_108_109_251, path: '37' }
  ]
}

const NAME = /^(?:@fastify-observability\/|fastify-observability)/
const PIECES = [
  '__proto__',
  'constructor',
  '%00',
  '%ff',
  '\u0000',
  '\ud800',
  '://',
  'a=b',
  ',',
  'é',
  '-1',
  '1e999',
  'NaN',
  'true',
  '[',
  '{}'
]
const text = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom(...PIECES) }))
const anything = fc.oneof(
  text,
  fc.anything({
    withBigInt: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
    withSparseArray: true
  })
)
const silent = { logging: { stream: { write: () => undefined } } } as const

/** Errors of ours say that an option is wrong, by the name of the package. */
function assertOurs(error: unknown): void {
  if (!(error instanceof Error && NAME.test(error.message))) throw error
}

/** What our own functions may throw; at start-up a type too. */
function refused(fn: () => unknown, other?: typeof TypeError): void {
  try {
    fn()
  } catch (error) {
    if (!(other && error instanceof other)) assertOurs(error)
  }
}

/** The app starts, or fails with an error of ours. */
async function startsOrSays(prepare: (app: FastifyInstance) => unknown): Promise<void> {
  const app = Fastify()
  try {
    prepare(app)
    await app.ready()
  } catch (error) {
    assertOurs(error)
  } finally {
    await app.close()
  }
}

type Call = (a: unknown, b: unknown, app: FastifyInstance) => unknown
const call = (fn: (...passed: never[]) => unknown, ...passed: unknown[]): unknown =>
  Reflect.apply(fn, undefined, passed)
const { withSpan, withBaggage, getBaggage, observe, createLogger, logger, clusterMetrics } = exported
const { http, postgres, redis, disk, bullmqTelemetry } = exported

/** Each public function, with anything; `undefined` is what an application that does not care passes. */
const CALLS: Record<string, Call> = {
  withSpan: (a, b) => call(withSpan, a, b, () => 1),
  'withSpan, what is thrown': (a) => Promise.resolve(withSpan('s', () => Promise.reject(a))).catch(() => undefined),
  withBaggage: (a) => refused(() => call(withBaggage, a, () => getBaggage('a'))),
  observe: async (a, b) => {
    try {
      await call(observe, a, b, () => 1)
    } catch (error) {
      assertOurs(error)
    }
  },
  'observe, what is thrown': (a) => observe('job', () => Promise.reject(a)).catch(() => undefined),
  logger: (a, b) => call(logger().info.bind(logger()), a, b),
  'logger, a child': (a, b) => call(logger().child({ a }).error.bind(logger()), b),
  createLogger: (a, b) => refused(() => call(createLogger, { ...silent.logging, level: a, service: b })),
  'createLogger, options': (a) => refused(() => call(createLogger, a)),
  clusterMetrics: async (a) => startsOrSays((app) => app.register(clusterMetrics, { path: Object(a) })),
  http: (a, b) => refused(() => call(http, a, b), TypeError),
  postgres: (a, b) => refused(() => call(postgres, a, b), TypeError),
  redis: (a, b) => refused(() => call(redis, a, b), TypeError),
  disk: (a, b) => refused(() => call(disk, a, b), TypeError),
  bullmqTelemetry: (a, b) => refused(() => call(bullmqTelemetry, a, b), TypeError),
  'observation, add and fail': (_a, _b, app) => app.inject('/call'),
  currentObservation: () => observationOf(),
  report: (_a, _b, app) => app.observability.report()
}

/** Variables that the suite reads; those that name a file are given one of a folder. */
const VARIABLES = [
  'LOG_FORMAT LOG_LEVEL NODE_ENV SENTRY_ENVIRONMENT SENTRY_RELEASE OTEL_SERVICE_NAME OTEL_RESOURCE_ATTRIBUTES OTEL_SDK_DISABLED',
  'OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_TIMEOUT OTEL_EXPORTER_OTLP_COMPRESSION OTEL_EXPORTER_OTLP_PROTOCOL',
  'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE OTEL_PROPAGATORS OTEL_TRACES_SAMPLER',
  'OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION OTEL_TRACES_SAMPLER_ARG OTEL_TRACES_EXPORTER OTEL_LOGS_EXPORTER',
  'OTEL_METRICS_EXPORTER OTEL_METRICS_EXEMPLAR_FILTER OTEL_METRIC_EXPORT_INTERVAL OTEL_METRIC_EXPORT_TIMEOUT',
  'OTEL_BSP_EXPORT_TIMEOUT OTEL_BSP_MAX_EXPORT_BATCH_SIZE OTEL_BSP_MAX_QUEUE_SIZE OTEL_BSP_SCHEDULE_DELAY',
  'OTEL_BLRP_EXPORT_TIMEOUT OTEL_BLRP_MAX_EXPORT_BATCH_SIZE OTEL_BLRP_MAX_QUEUE_SIZE OTEL_BLRP_SCHEDULE_DELAY',
  'OTEL_ATTRIBUTE_COUNT_LIMIT OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT OTEL_SPAN_EVENT_COUNT_LIMIT OTEL_SPAN_LINK_COUNT_LIMIT',
  'OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT OTEL_LINK_ATTRIBUTE_COUNT_LIMIT',
  'OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS TRACE_LIFECYCLE_SPANS'
].flatMap((names) => names.split(' '))

// What cannot be delivered is dropped after 50 ms.
const SOON = { OTEL_METRIC_EXPORT_TIMEOUT: '50', OTEL_BSP_EXPORT_TIMEOUT: '50', OTEL_BLRP_EXPORT_TIMEOUT: '50' }
/** Of those whose values are addresses, keys and certificates; a wrong one may keep the app from starting. */
const TARGETS = ['TRACES_', 'METRICS_', 'LOGS_', '']
  .flatMap((signal) =>
    ['ENDPOINT', 'CERTIFICATE', 'CLIENT_KEY', 'CLIENT_CERTIFICATE', 'INSECURE'].map((end) => signal + end)
  )
  .map((end) => `OTEL_EXPORTER_OTLP_${end}`)
  .concat('SENTRY_DSN')
// Nothing listens on port 1, and no other host is asked.
const target = fc.oneof(
  text,
  fc
    .tuple(
      fc.constantFrom('http:', 'https:', 'grpc:', 'unix:', 'HTTP:', 'ftp:', ''),
      fc.constantFrom('//', '/', ''),
      text,
      text
    )
    .map(
      ([scheme, slashes, user, path]) =>
        `${scheme}${slashes}${encodeURIComponent(user.toWellFormed())}@127.0.0.1:1/${path}`
    )
)

const REQUEST = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH', 'QUERY', 'PURGE'),
  url: fc.oneof(
    fc.webPath(),
    text.map((path) => `/${path}`)
  ),
  headers: fc.dictionary(
    fc.constantFrom(
      'x-request-id',
      'x-correlation-id',
      'traceparent',
      'tracestate',
      'baggage',
      'user-agent',
      'host',
      'x-forwarded-for',
      'forwarded',
      'accept',
      'content-type',
      'content-length',
      'upgrade',
      'sentry-trace',
      'cookie'
    ),
    text
  )
})

function declareRoutes(app: FastifyInstance): void {
  app.get('/', async () => 'ok')
  app.all('/:id/*', async ({ params }) => params)
}

/** Tests that hold for whatever is put in, each with so many cases. */
export function fuzz(test: (title: string, body: (t: Test) => Promise<unknown>) => unknown, numRuns: number): void {
  async function holds(name: string, property: IAsyncProperty<unknown[]>, runs = numRuns): Promise<void> {
    for (const kept of KEPT[name] ?? []) await fc.assert(Object(property), { ...kept, endOnFailure: true })
    await fc.assert(Object(property), { numRuns: runs })
  }

  test(`no public function throws more than that an option is wrong, of ${numRuns} calls each`, async (t) => {
    const app = Fastify()
    await app.register(observability, silent)
    let passed: unknown[] = []
    app.get('/call', async ({ observation }) => {
      Reflect.apply(observation.add, observation, [passed[0]])
      Reflect.apply(observation.fail, observation, [passed[1]])
      return 'ok'
    })
    await app.ready()
    for (const [name, fn] of Object.entries(CALLS)) {
      const property = fc.asyncProperty(anything, anything, async (a, b) => {
        passed = [a, b]
        await fn(a, b, app)
      })
      await t.resolves(holds(name, Object(property)), name)
    }
    await app.close()
  })

  test(`answers ${numRuns} requests of any method, URL and headers as a plain app does`, async (t) => {
    const [plain, observed] = [Fastify(), Fastify()]
    await observed.register(observability, silent)
    for (const app of [plain, observed]) declareRoutes(app)
    const property = fc.asyncProperty(REQUEST, async (request) => {
      const [expected, seen] = await Promise.allSettled([plain, observed].map((app) => app.inject(Object(request))))
      const outcome = (one: typeof expected) =>
        one?.status === 'fulfilled' ? `${one.value.statusCode} ${one.value.body}` : `${one?.reason}`
      if (outcome(expected) !== outcome(seen)) throw new Error(`${outcome(expected)} became ${outcome(seen)}`)
    })
    await t.resolves(holds('requests', Object(property)))
    await Promise.all([plain.close(), observed.close()])
  })

  test(`starts with whatever ${VARIABLES.length} variables say, of ${numRuns} values`, async (t) => {
    const { env } = process
    t.teardown(() => {
      process.env = env
    })
    const file = join(t.testdir(), 'app.log')
    const variables = fc.dictionary(fc.constantFrom(...VARIABLES), text, { minKeys: 4, maxKeys: 8 })
    const property = fc.asyncProperty(variables, async (set) => {
      process.env = { ...env, LOG_FILE: file, ...set }
      const app = Fastify()
      await app.register(observability, { ...silent, devtools: false })
      await app.close()
    })
    await t.resolves(holds('variables', Object(property), numRuns / 4))
  })

  test(`starts, or says what is wrong, with whatever ${TARGETS.length} addresses and certificates say`, async (t) => {
    const { env } = process
    t.teardown(() => {
      process.env = env
    })
    const exporters = { OTEL_TRACES_EXPORTER: 'otlp', OTEL_METRICS_EXPORTER: 'otlp', OTEL_LOGS_EXPORTER: 'otlp' }
    const variables = fc.dictionary(fc.constantFrom(...TARGETS), target, { minKeys: 1, maxKeys: 5 })
    const property = fc.asyncProperty(variables, async (set) => {
      process.env = { ...env, ...exporters, ...SOON, ...set }
      await startsOrSays((app) => app.register(observability, { ...silent, devtools: false }))
    })
    await t.resolves(holds('targets', Object(property), numRuns / 4))
  })
}
