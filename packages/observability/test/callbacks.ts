import { once } from 'node:events'
import { connect } from 'node:net'
import type { CounterOptions, GaugeOptions, HistogramOptions, PoolState } from '@fastify-observability/metrics'
import type { JobObserver, Observer, Series } from '@fastify-observability/observation'
import { registryOf } from '@fastify-observability/observation/internal'
import { type Collector, startCollector } from '@fastify-observability/testing/collector'
import { type Ingest, startIngest } from '@fastify-observability/testing/ingest'
import type { NodeOptions } from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import observability, { type ObservabilityOptions } from '../src/index.ts'

type Callback = (...args: never[]) => unknown
type Opaque = RegExp | FastifyInstance

/** The paths to all functions in a type: `tracing.isError`, `health.checks.*`, `tracing.spanProcessors[].onEnd`. */
type Places<Options, Path extends string = ''> = Options extends Callback
  ? Path
  : Options extends Opaque
    ? never
    : Options extends readonly (infer Item)[]
      ? Places<Item, `${Path}[]`>
      : Options extends object
        ? {
            [Name in keyof Options & string]-?: Name extends 'sdk'
              ? `sentry.sdk.${SdkFunction}`
              : Places<
                  NonNullable<Options[Name]>,
                  `${Path}${Path extends '' ? '' : '.'}${string extends Name ? '*' : Name}`
                >
          }[keyof Options & string]
        : never

type SdkFunction = keyof {
  [Name in keyof NodeOptions as Extract<NodeOptions[Name], Callback> extends never ? never : Name]: unknown
}

/** Everything that takes a function of the user's, and calls it later. */
interface Surface extends ObservabilityOptions {
  observer: Observer
  jobObserver: JobObserver
  series: Series
  counter: CounterOptions
  gauge: GaugeOptions
  histogram: HistogramOptions
  observePool: () => PoolState
}

type Wrong = (...args: unknown[]) => unknown

interface Case {
  options?(wrong: Wrong): object
  prepare?(app: FastifyInstance, wrong: Wrong): void
  /** The series that counts it. @default 'observability_observer_errors_total' */
  counted?: string
  /** Returns of it that are right, or that nobody looks at. @default none */
  fine?: readonly string[]
  /** It is not called, or where the application is made: then the registration says so. */
  asked?: 'never' | 'at registration'
  /** Reports that are expected. @default 1 */
  reports?: 0
  safe?(t: Test, seen: Seen): void
}

interface Answer {
  status: number
  id: string | null
  body: string
}

interface Seen {
  answers: Record<string, Answer>
  lines: Record<string, unknown>[]
  metrics: string
  counts: ReadonlyMap<string, number>
  spans: Collector['spans']
  events: Ingest['events']
}

const CALLER = 'caller-7'
const TRACE = 'a'.repeat(32)
const PARENT = `00-${TRACE}-${'b'.repeat(16)}-01`
const BOOM = '{"statusCode":500,"error":"Internal Server Error","message":"boom"}'
const ASKED = ['/', '/boom', '/health/ready', '/metrics']
const ANYTHING = ['returns a symbol', 'returns an object without a prototype']
const processor = (moment: string) => (wrong: Wrong) => {
  const base = { onStart() {}, onEnd() {}, forceFlush: async () => undefined, shutdown: async () => undefined }
  return { tracing: { spanProcessors: [{ ...base, [moment]: wrong }] } }
}
const instrumentation = (method: string) => (wrong: Wrong) => {
  const names = ['disable', 'enable', 'setConfig', 'setMeterProvider', 'setTracerProvider', 'setLoggerProvider']
  const methods = Object.fromEntries(names.map((name) => [name, () => undefined]))
  const own = {
    instrumentationName: 'own',
    instrumentationVersion: '1',
    getConfig: () => ({}),
    ...methods,
    [method]: wrong
  }
  return { tracing: { instrumentations: [own] } }
}
const observer = (moment: string) => (app: FastifyInstance, wrong: Wrong) =>
  app.observation.observe({ name: 'own', [moment]: wrong })
const jobObserver = (moment: string) => (app: FastifyInstance, wrong: Wrong) => {
  app.observation.observe({ name: 'own', kind: 'job', [moment]: wrong })
  app.addHook('onReady', async () => void (await app.observability.observe('import', () => 'done')))
}
const oneJob: Case['safe'] = (t, { lines }) => t.match(jobsOf(lines), [{ msg: 'job completed', job: 'import' }])
const jobsOf = (lines: Seen['lines']) => lines.filter(({ msg }) => String(msg).startsWith('job '))
const sdk = (hook: string) => (wrong: Wrong) => ({ sentry: { sdk: { [hook]: wrong } } })

// Whoever adds an option that takes a function adds it here: the compiler says so.
const CASES: Record<Places<Surface>, Case> = {
  'requestId.trustInbound': {
    options: (trustInbound) => ({ requestId: { trustInbound } }),
    safe: (t, { answers }) => t.not(answers['/']?.id, CALLER)
  },
  'logging.levelFor': {
    options: (levelFor) => ({ logging: { levelFor } }),
    safe: (t, { lines }) => t.notOk(lines.some(({ level }) => level === 'debug'))
  },
  'logging.stream.write': {
    options: (write) => ({ logging: { stream: { write } } }),
    counted: 'log_lines_dropped_total',
    reports: 0,
    fine: ANYTHING
  },
  'tracing.trustInbound': {
    options: (trustInbound) => ({ tracing: { trustInbound } }),
    safe: (t, { spans }) => t.notOk(spans.some(({ traceId }) => traceId === TRACE))
  },
  'tracing.isError': {
    options: (isError) => ({ tracing: { isError } }),
    safe: (t, { spans }) =>
      t.same(
        spans.map(({ name, status }) => [name, status]),
        [
          ['GET /', 'UNSET'],
          ['GET /boom', 'ERROR']
        ]
      )
  },
  'tracing.sampler.shouldSample': { options: (shouldSample) => ({ tracing: { sampler: { shouldSample } } }) },
  'tracing.sampler.toString': {
    options: (wrong) => ({ tracing: { sampler: { shouldSample: () => ({ decision: 2 }), toString: wrong } } }),
    asked: 'never'
  },
  'tracing.spanProcessors[].onStart': { options: processor('onStart'), fine: ANYTHING },
  'tracing.spanProcessors[].onEnding': { options: processor('onEnding'), fine: ANYTHING },
  'tracing.spanProcessors[].onEnd': { options: processor('onEnd'), fine: ANYTHING },
  'tracing.spanProcessors[].forceFlush': { options: processor('forceFlush'), fine: ANYTHING },
  'tracing.spanProcessors[].shutdown': { options: processor('shutdown'), fine: ANYTHING },
  'tracing.instrumentations[].enable': { options: instrumentation('enable'), asked: 'never' },
  'tracing.instrumentations[].disable': { options: instrumentation('disable'), fine: ANYTHING },
  'tracing.instrumentations[].setTracerProvider': {
    options: instrumentation('setTracerProvider'),
    fine: ANYTHING
  },
  'tracing.instrumentations[].getConfig': { options: instrumentation('getConfig'), asked: 'never' },
  'tracing.instrumentations[].setConfig': { options: instrumentation('setConfig'), asked: 'never' },
  'tracing.instrumentations[].setLoggerProvider': { options: instrumentation('setLoggerProvider'), asked: 'never' },
  'tracing.instrumentations[].setMeterProvider': { options: instrumentation('setMeterProvider'), asked: 'never' },
  'metrics.customLabels.*': {
    options: (tenant) => ({ metrics: { customLabels: { tenant } } }),
    safe: (t, { metrics }) => t.notMatch(metrics, /tenant="[^"]/)
  },
  'health.checks.*': {
    options: (check) => ({ health: { checks: { own: check } } }),
    counted: 'failed checks',
    fine: ANYTHING
  },
  'health.checks.*.check': {
    options: (check) => ({ health: { checks: { own: { check, critical: false } } } }),
    counted: 'failed checks',
    fine: ANYTHING
  },
  'health.details': {
    options: (details) => ({ health: { details } }),
    safe: (t, { answers }) => t.notMatch(answers['/health/ready']?.body, 'duration')
  },
  'sentry.shouldCapture': { options: (shouldCapture) => ({ sentry: { shouldCapture } }) },
  'sentry.user': {
    options: (user) => ({ sentry: { user } }),
    fine: ['returns an object without a prototype'],
    safe: (t, { events }) => t.equal(events[0]?.user, undefined)
  },
  'sentry.sdk.beforeSend': {
    options: sdk('beforeSend'),
    counted: 'sentry_events_dropped_total',
    reports: 0,
    fine: ['returns an object without a prototype']
  },
  'sentry.sdk.beforeBreadcrumb': { options: sdk('beforeBreadcrumb'), asked: 'never' },
  'sentry.sdk.beforeSendLog': { options: sdk('beforeSendLog'), asked: 'never' },
  'sentry.sdk.beforeSendMetric': { options: sdk('beforeSendMetric'), asked: 'never' },
  'sentry.sdk.beforeSendSpan': { options: sdk('beforeSendSpan'), asked: 'never' },
  'sentry.sdk.beforeSendTransaction': { options: sdk('beforeSendTransaction'), asked: 'never' },
  'sentry.sdk.onFatalError': { options: sdk('onFatalError'), asked: 'never' },
  'sentry.sdk.initialScope': { options: sdk('initialScope'), fine: ANYTHING },
  'sentry.sdk.integrations': { options: sdk('integrations') },
  'sentry.sdk.stackParser': { options: sdk('stackParser') },
  'sentry.sdk.tracesSampler': { options: sdk('tracesSampler'), asked: 'never' },
  'sentry.sdk.transport': { options: sdk('transport'), asked: 'at registration' },
  'observer.start': { prepare: observer('start'), fine: ANYTHING },
  'observer.run': { prepare: observer('run'), fine: ANYTHING },
  'observer.resume': { prepare: observer('resume'), fine: ANYTHING },
  'observer.headers': { prepare: observer('headers'), fine: ANYTHING },
  'observer.end': { prepare: observer('end'), fine: ANYTHING },
  'observer.malformed': { prepare: observer('malformed'), fine: ANYTHING },
  'jobObserver.start': { prepare: jobObserver('start'), fine: ANYTHING, safe: oneJob },
  'jobObserver.run': { prepare: jobObserver('run'), fine: ANYTHING, safe: oneJob },
  'jobObserver.resume': { prepare: jobObserver('resume'), fine: ANYTHING, safe: oneJob },
  'jobObserver.end': { prepare: jobObserver('end'), fine: ANYTHING, safe: oneJob },
  'series.collect': {
    prepare: (app, collect) =>
      Reflect.apply(app.observation.publish, app.observation, [
        { name: 'heat', help: 'H.', type: 'gauge', labelNames: [], collect }
      ]),
    safe: (t, { metrics }) => t.notMatch(metrics, /^heat /m)
  },
  'counter.collect': {
    prepare: (app, collect) => void app.metrics.counter({ name: 'own_total', help: 'O.', collect }),
    fine: ANYTHING
  },
  'gauge.collect': {
    prepare: (app, collect) => void app.metrics.gauge({ name: 'own', help: 'O.', collect }),
    fine: ANYTHING
  },
  observePool: {
    prepare: (app, read) => Reflect.apply(app.metrics.observePool, app.metrics, ['own', read]),
    safe: (t, { metrics }) => t.notMatch(metrics, /^db_client_connection_count\{/m)
  }
}

const WRONG: Record<string, Wrong> = {
  'throws an error': () => {
    throw new Error('no')
  },
  'throws what cannot be printed': () => {
    throw Object.create(null)
  },
  'is async and rejects': async () => Promise.reject(new Error('no')),
  'returns a promise of another kind that rejects': () => {
    const promise = Promise.reject(new Error('no'))
    // biome-ignore lint/suspicious/noThenProperty: what promises of other libraries are.
    return { then: promise.then.bind(promise) }
  },
  'returns a symbol': () => Symbol('no'),
  'returns an object without a prototype': () => Object.create(null)
}

/** A service with everything on, and with a function of the user's that is wrong. */
async function service({ options, prepare }: Case, wrong: Wrong, dsn: string, endpoint: string, lines: Seen['lines']) {
  const given: Record<string, object> = { ...options?.(wrong) }
  const app = Fastify()
  try {
    await app.register(observability, {
      ...given,
      logging: { stream: { write: (line: string) => void lines.push(JSON.parse(line)) }, ...given.logging },
      tracing: { endpoint, ...given.tracing },
      sentry: { dsn, ...given.sentry }
    })
  } catch (error) {
    await app.close()
    throw error
  }
  prepare?.(app, wrong)
  app.get('/', async ({ log }) => log.debug('hidden') ?? 'ok')
  app.get('/boom', async () => Promise.reject(new TypeError('boom')))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

/** All that comes of a few requests. */
async function seenOf(one: Case, wrong: Wrong, asked = ASKED): Promise<Seen> {
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  const lines: Seen['lines'] = []
  try {
    const app = await service(one, wrong, ingest.dsn, collector.url, lines)
    const answers: Seen['answers'] = {}
    for (const path of asked) answers[path] = await ask(app.listeningOrigin + path)
    await refused(app.listeningOrigin)
    await app.observability.flush(500)
    const metrics = await (await fetch(`${app.listeningOrigin}/metrics`)).text()
    await app.close()
    const counts = new Map(
      registryOf(app)
        .published.filter(isCount)
        .map((series) => [series.name, sum(series)])
    )
    counts.set('failed checks', Number(/^health_check_up\{check="own"\} 0$/m.test(metrics)))
    return {
      answers,
      lines,
      metrics,
      counts,
      spans: collector.spans.filter(({ kind }) => kind === 'SERVER'),
      events: ingest.events
    }
  } finally {
    await Promise.all([collector.close(), ingest.close()])
  }
}

async function ask(url: string): Promise<Answer> {
  const response = await fetch(url, { headers: { 'x-request-id': CALLER, traceparent: PARENT } })
  const body = await response.text()
  return { status: response.status, id: response.headers.get('x-request-id'), body }
}

/** Sends what is no HTTP. */
async function refused(origin: string): Promise<void> {
  const socket = connect(Number(new URL(origin).port), '127.0.0.1')
  socket.end('nonsense\r\n\r\n').resume()
  await once(socket, 'close')
}

const isCount = ({ name }: Series): boolean => /_(errors|dropped)_total$/.test(name)
const sum = (series: Series): number => Array.from(series.collect()).reduce((total, [, value]) => total + value, 0)
const statusesOf = ({ answers }: Seen) => Object.values(answers).map(({ status }) => status)
const reportsOf = ({ lines }: Seen) => lines.filter(({ err, msg }) => err && msg !== 'request completed')
// A probe that was slow because the machine is busy has a line too.
const requestsOf = ({ lines }: Seen) =>
  lines.filter(({ msg, route, status_code }) => msg === 'request completed' && (route === '/' || status_code !== 200))
    .length

/** The first is what happens; the others are what else may. */
export const PROBLEMS: readonly string[] = Object.keys(WRONG)

/** Makes a test of each function of the user's that has one of the problems. */
export function callbacks(test: Test['test'], problems: readonly string[]): void {
  for (const [place, one] of Object.entries(CASES)) {
    const { asked, counted = 'observability_observer_errors_total', fine = [], reports = 1, safe } = one
    for (const [problem, wrong] of Object.entries(WRONG).filter(([name]) => problems.includes(name))) {
      if (asked === 'at registration') {
        test(`${place} that ${problem} fails at registration`, async (t) => t.rejects(seenOf(one, wrong)))
        continue
      }
      const isWrong = asked === undefined && !fine.includes(problem)
      test(`${place} that ${problem} is ${isWrong ? 'counted, reported once and' : 'no fault,'} never seen by a client`, async (t) => {
        const seen = await seenOf(one, wrong)
        const isUnready = isWrong && place === 'health.checks.*'
        t.same(statusesOf(seen), [200, 500, isUnready ? 503 : 200, 200])
        t.same([seen.answers['/']?.body, seen.answers['/boom']?.body], ['ok', BOOM])
        t.equal(reportsOf(seen).length, isWrong ? reports : 0)
        t.equal(Number(seen.counts.get(counted)) > 0, isWrong)
        // What is broken itself says nothing.
        if (place !== 'logging.stream.write') t.equal(requestsOf(seen), isUnready ? 4 : 3)
        if (place !== 'sentry.sdk.beforeSend') t.equal(seen.events.length, 1)
        t.same(seen.spans.map(({ name }) => name).sort(), ['GET /', 'GET /boom'])
        if (isWrong) safe?.(t, seen)
      })
    }
  }
}
