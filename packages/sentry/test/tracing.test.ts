import { once } from 'node:events'
import http, { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { FastifyOtelInstrumentation } from '@fastify/otel'
import { startIngest } from '@fastify-observability/testing/ingest'
import { context, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { type Test, test } from 'tap'
import sentry, { type SentryOptions } from '../src/index.ts'
import { closeSent } from './closing.ts'

interface Span {
  name: string
  trace_id: string
  span_id: string
  is_segment: boolean
  attributes: Record<string, { value: unknown }>
}

async function service(
  t: Test,
  options: SentryOptions = {},
  before: (app: FastifyInstance) => Promise<unknown> = async () => undefined
) {
  const ingest = await startIngest()
  const warnings: string[] = []
  const stream = { write: (line: string) => void warnings.push(JSON.parse(line).msg) }
  const app = Fastify({ logger: { level: 'warn', stream } })
  await before(app)
  await app.register(sentry, { dsn: ingest.dsn, tracesSampleRate: 1, ...options })
  app.get('/boom/:id', async () => Promise.reject(new Error('boom')))
  app.get('/fine', async () => 'ok')
  app.get('/probe', { config: { observability: { trace: false } } }, async () => 'ok')
  const origin = await app.listen({ port: 0 })
  t.teardown(async () => {
    await app.close()
    await ingest.close()
  })
  const spans = (): Span[] =>
    ingest.items.flatMap(({ type, payload }) => (type === 'span' ? (payload as { items: Span[] }).items : []))
  return { app, ingest, origin, spans, warnings: () => warnings.filter((text) => text.includes('sentry')) }
}

/** A server that keeps the headers of what it is asked. */
async function neighbour(t: Test) {
  const asked: IncomingHttpHeaders[] = []
  const server = createServer(({ headers }, response) => {
    asked.push(headers)
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  async function call(): Promise<void> {
    await (await fetch(url)).text()
    await new Promise((resolve) => http.get(url, (response) => response.resume().on('end', resolve)))
  }
  return { asked, call }
}

test('traces by itself where nobody else does, under the names of routes, and links events to that', async (t) => {
  const { app, ingest, origin, spans } = await service(t)
  await (await fetch(`${origin}/boom/7`)).text()
  await closeSent(app)
  const server = spans().find(({ name }) => name === 'GET /boom/:id')
  t.match(server, { is_segment: true, attributes: { 'http.response.status_code': { value: 500 } } })
  t.same(ingest.events[0]?.contexts?.trace, { trace_id: server?.trace_id, span_id: server?.span_id })
})

test('makes no spans for a request that is not sampled, whose events share a trace all the same', async (t) => {
  const twice = async ({ id }: FastifyRequest): Promise<never> => {
    Sentry.startSpan({ name: 'inner' }, () => Sentry.captureException(new Error(`captured by ${id}`)))
    throw new Error(`thrown by ${id}`)
  }
  const options = { tracesSampleRate: Number.MIN_VALUE }
  const { app, ingest, origin, spans } = await service(t, options, async (app) => app.get('/twice', twice))
  for (let index = 0; index < 2; index++) await (await fetch(`${origin}/twice`)).text()
  await closeSent(app)
  t.same(spans(), [])
  const told = ingest.events.map((event) => [event.exception?.values[0]?.value, event.contexts?.trace?.trace_id])
  const traces = Object.fromEntries(told)
  t.equal(told.length, 4)
  for (const id of ['req-1', 'req-2']) {
    t.match(traces[`captured by ${id}`], /^[0-9a-f]{32}$/)
    t.equal(traces[`captured by ${id}`], traces[`thrown by ${id}`])
  }
  t.not(traces['captured by req-1'], traces['captured by req-2'])
})

test('traces what its caller has sampled', async (t) => {
  const { app, origin, spans } = await service(t, { tracesSampleRate: Number.MIN_VALUE })
  const headers = { 'sentry-trace': '771a43a4192642f0b136d5159a501700-1234567890abcdef-1' }
  await (await fetch(`${origin}/boom/7`, { headers })).text()
  await closeSent(app)
  t.match(spans(), [{ name: 'GET /boom/:id', trace_id: '771a43a4192642f0b136d5159a501700' }])
})

test('leaves the decision to the sampler of the application', async (t) => {
  const tracesSampler = ({ name }: { name: string }): number => Number(name === 'GET /boom/:id')
  const { app, origin, spans } = await service(t, { tracesSampleRate: Number.MIN_VALUE, sdk: { tracesSampler } })
  await (await fetch(`${origin}/boom/7`)).text()
  await closeSent(app)
  t.match(spans(), [{ name: 'GET /boom/:id' }])
})

test('traces no more a second than it may, and says by which share', async (t) => {
  const { app, spans } = await service(t, { maxTracesPerSecond: 20 })
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: 400 }, () => app.inject('/fine')))
  const seconds = (performance.now() - startedAt) / 1_000
  await closeSent(app)
  const served = spans().filter(({ name }) => name === 'GET /fine')
  const shares = served.map(({ attributes }) => Number(attributes['sentry.sample_rate']?.value))
  t.ok(shares.length < 100 + 40 * seconds, `${shares.length} of 400 in ${seconds} s`)
  t.ok(shares.includes(1), 'the first is one of few')
  t.ok(Math.min(...shares) < 0.5, 'and the others are said to stand for many')
})

test('a caller’s decision stands however many there are, and one that leaves it open is one of many', async (t) => {
  const { app, origin, spans } = await service(t, { maxTracesPerSecond: 1 })
  const trace = '771a43a4192642f0b136d5159a501700-1234567890abcdef'
  const ask = async (sentryTrace: string): Promise<void> => {
    await (await fetch(`${origin}/boom/7`, { headers: { 'sentry-trace': sentryTrace } })).text()
  }
  const startedAt = performance.now()
  for (let request = 0; request < 40; request++) await ask(`${trace}-1`)
  for (let request = 0; request < 40; request++) await ask(trace)
  const seconds = (performance.now() - startedAt) / 1_000
  await closeSent(app)
  const { length } = spans().filter(({ name }) => name === 'GET /boom/:id')
  t.ok(length >= 40 && length < 60 + 2 * seconds, `${length} of 40 and of 40 in ${seconds} s`)
})

test('traces no probe, preflight or file of a page', async (t) => {
  const { app, origin, spans } = await service(t, {}, async (app) => app.get('/assets/*', async () => 'ok'))
  for (const path of ['/probe', '/assets/page.css']) await (await fetch(origin + path)).text()
  await fetch(`${origin}/boom/7`, { method: 'OPTIONS' })
  await closeSent(app)
  t.same(
    spans().filter(({ attributes }) => attributes['sentry.op']?.value === 'http.server'),
    []
  )
})

test('adds no headers to outgoing calls', async (t) => {
  const { asked, call } = await neighbour(t)
  const { origin } = await service(t, {}, async (app) => app.get('/calling', call))
  await (await fetch(`${origin}/calling`)).text()
  t.equal(asked.length, 2)
  t.notOk(asked.some((headers) => 'sentry-trace' in headers || 'baggage' in headers))
})

test('says that it cannot profile only to those who have asked', async (t) => {
  const quiet = await service(t, { tracesSampleRate: 0 })
  await quiet.app.close()
  t.same(quiet.warnings(), [])
  const asked = await service(t, { tracesSampleRate: 0, profilesSampleRate: 0.5 })
  t.equal(asked.warnings().length, 1)
  t.match(asked.warnings()[0], /no profiles: they need spans of Sentry/)
})

test('leaves tracing to OpenTelemetry where it is, and starts beside @fastify/otel', async (t) => {
  const exporter = new InMemorySpanExporter()
  const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] })
  trace.setGlobalTracerProvider(provider)
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  t.teardown(() => [trace, context].map((part) => part.disable()))
  const otel = new FastifyOtelInstrumentation()
  t.teardown(() => otel.disable())
  otel.setTracerProvider(provider)
  const { app, ingest, origin, warnings } = await service(t, {}, async (app) => {
    await app.register(otel.plugin())
    app.get('/handled', async () => void Sentry.captureException(new Error('handled')))
  })
  for (const path of ['/boom/7', '/handled']) await (await fetch(origin + path)).text()
  await closeSent(app)
  const traces = new Set(exporter.getFinishedSpans().map((span) => span.spanContext().traceId))
  t.same(warnings(), [])
  t.same(
    ingest.items.map(({ type }) => type),
    ['event', 'event']
  )
  t.ok(ingest.events.every(({ contexts }) => traces.has(contexts?.trace?.trace_id ?? '')))
})

test('says when somebody begins to trace after it', async (t) => {
  const ingest = await startIngest()
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => void lines.push(line) } } })
  await app.register(sentry, { dsn: ingest.dsn })
  trace.setGlobalTracerProvider(new TracerProvider())
  t.teardown(() => trace.disable())
  await app.ready()
  await Promise.all([app.close(), ingest.close()])
  t.equal(lines.length, 1)
  t.match(lines[0], /both Sentry and OpenTelemetry make spans: register tracing before sentry/)
})

test('shows its events in Spotlight, with or without a DSN', async (t) => {
  const sidecar = await startIngest()
  t.teardown(() => sidecar.close())
  for (const dsn of [undefined, 'http://key@127.0.0.1:1/1']) {
    const app = Fastify()
    await app.register(sentry, { dsn, spotlight: sidecar.dsn.replace('key@', ''), tracesSampleRate: 0 })
    app.get('/', async () => Promise.reject(new Error('password=planted')))
    await app.inject('/')
    await app.close()
  }
  await sidecar.event(() => true)
  t.ok(sidecar.events.every(({ exception }) => exception?.values[0]?.value === 'password=[redacted]'))
})
