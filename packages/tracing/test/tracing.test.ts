import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { json } from 'node:stream/consumers'
import { currentObservation } from '@fastify-observability/observation'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import { context, createContextKey, propagation, ROOT_CONTEXT, type Span, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { InstrumentationBase } from '@opentelemetry/instrumentation'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import Fastify from 'fastify'
import { test } from 'tap'
import tracing, { type TracingOptions, withSpan } from '../src/index.ts'
import { named, spansOf, TRACE_ID, TRACEPARENT, traced, withEnv } from './traced.ts'

test('exports one server span a request, with the stable HTTP attributes', async (t) => {
  const { app, collector } = await traced(t, (app) => app.get('/orders/:id', async () => 'ok'))
  await app.inject({ url: '/orders/7?token=planted&page=2', headers: { host: 'shop.test:8000', 'user-agent': 'curl' } })
  const spans = await spansOf(app, collector)
  t.equal(spans.length, 1)
  const { name, kind, status, attributes, resource } = named(spans, 'GET /orders/:id')
  t.match({ name, kind, status }, { kind: 'SERVER', status: 'UNSET' })
  t.same(attributes, {
    'http.request.method': 'GET',
    'http.route': '/orders/:id',
    'http.response.status_code': 200,
    'url.scheme': 'http',
    'url.path': '/orders/7',
    'url.query': 'token=[redacted]&page=2',
    'server.address': 'shop.test',
    'server.port': 8000,
    'client.address': '127.0.0.1',
    'network.peer.address': '127.0.0.1',
    'network.protocol.version': '1.1',
    'user_agent.original': 'curl',
    'request.id': 'req-1'
  })
  t.match(resource, {
    'service.name': 'shop',
    'service.version': '1.2.3',
    'deployment.environment.name': 'test',
    'service.instance.id': String,
    'host.name': String,
    'process.pid': process.pid
  })
})

test('marks only answers of 500 and above as errors, with the exception', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/boom', async () => Promise.reject(new TypeError('boom')))
    app.get('/gone', async () => Promise.reject(Object.assign(new Error('gone'), { statusCode: 404 })))
  })
  for (const url of ['/boom', '/gone', '/nowhere']) await app.inject(url)
  const spans = await spansOf(app, collector)
  const failed = named(spans, 'GET /boom')
  t.match(failed, { status: 'ERROR', attributes: { 'http.response.status_code': 500, 'error.type': 'TypeError' } })
  t.match(failed.events, [
    { name: 'http.response.first_byte' },
    { name: 'exception', attributes: { 'exception.message': 'boom', 'exception.type': 'TypeError' } }
  ])
  t.match(named(spans, 'GET /gone'), { status: 'UNSET', attributes: { 'http.response.status_code': 404 } })
  t.equal(named(spans, 'GET /gone').events.length, 1)
  t.match(named(spans, 'GET'), { status: 'UNSET', attributes: { 'url.path': '/nowhere', 'http.route': undefined } })
})

test('sees an aborted request as such, without a status that was never sent', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/slow', async (request) => once(request.raw.socket, 'close'))
  })
  const { port } = new URL(await app.listen({ port: 0 }))
  const client = http.get({ port, path: '/slow' }).on('error', () => undefined)
  await once(app.server, 'request')
  client.destroy()
  const span = await collector.span(({ name }) => name === 'GET /slow').finally(() => app.close())
  t.match(span.attributes, { 'error.type': 'client_disconnect', 'http.response.status_code': undefined })
})

test('continues the trace of its caller', async (t) => {
  const { app, collector } = await traced(t, (app) => app.get('/', async () => 'ok'))
  await app.inject({ url: '/', headers: { traceparent: TRACEPARENT } })
  t.match(await spansOf(app, collector), [{ traceId: TRACE_ID, parentSpanId: 'b7ad6b7169203331' }])
})

test('starts a trace of its own for an untrusted caller, linked to the other one', async (t) => {
  const untrusted: TracingOptions['trustInbound'][] = [false, () => false, () => fail('predicate')]
  for (const trustInbound of untrusted) {
    const { app, collector } = await traced(t, (app) => app.get('/', async () => 'ok'), { trustInbound })
    await app.inject({ url: '/', headers: { traceparent: TRACEPARENT, tracestate: 'a=b' } })
    const [span] = await spansOf(app, collector)
    t.match(span, { parentSpanId: '', links: [{ traceId: TRACE_ID, spanId: 'b7ad6b7169203331' }] })
    t.not(span?.traceId, TRACE_ID)
  }
  const trusted = await traced(t, (app) => app.get('/', async () => 'ok'), {
    trustInbound: ({ headers }) => 'x-edge' in headers
  })
  await trusted.app.inject({ url: '/', headers: { traceparent: TRACEPARENT, 'x-edge': 'yes' } })
  t.match(await spansOf(trusted.app, trusted.collector), [{ traceId: TRACE_ID, links: [] }])
})

test('lets nobody outside drive the sampling, or put 1,000 requests into one trace', async (t) => {
  withEnv(t, { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.1' })
  const ids = new Set<string>()
  const { app, collector } = await traced(
    t,
    (app) => app.get('/', async ({ span }) => void ids.add(span?.spanContext().traceId ?? '')),
    { trustInbound: false }
  )
  for (let request = 0; request < 1000; request++) await app.inject({ url: '/', headers: { traceparent: TRACEPARENT } })
  const exported = (await spansOf(app, collector)).length
  // Chance is outside of these bounds once in forty million runs.
  t.ok(exported >= 50 && exported <= 155, `${exported} exported`)
  t.equal(ids.size, 1000)
})

test('carries the trace to the services it calls, over fetch and over http', async (t) => {
  const peer = http.createServer((request, response) => response.end(JSON.stringify(request.headers))).listen(0)
  await once(peer, 'listening')
  t.teardown(() => peer.close())
  const address = peer.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
  const { app, collector } = await traced(t, (app) => {
    app.get('/fetch', async () => (await fetch(url)).json())
    app.get('/http', async () => {
      const [response] = await once(http.get(url), 'response')
      return json(response)
    })
  })
  for (const route of ['/fetch', '/http']) {
    const sent = (await app.inject(route)).json().traceparent
    const server = await collector.span(({ name }) => name === `GET ${route}`)
    const client = await collector.span(({ kind, parentSpanId }) => kind === 'CLIENT' && parentSpanId === server.spanId)
    t.equal(sent, `00-${server.traceId}-${client.spanId}-01`, route)
  }
})

test('nests spans of the application, sync and async, below the server span', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async () => withSpan('outer', { 'order.id': 7 }, async () => withSpan('inner', () => 'result')))
  })
  t.equal((await app.inject('/')).body, 'result')
  const spans = await spansOf(app, collector)
  const outer = named(spans, 'outer')
  t.match(outer, { parentSpanId: named(spans, 'GET /').spanId, attributes: { 'order.id': 7 }, kind: 'INTERNAL' })
  t.match(named(spans, 'inner'), { parentSpanId: outer.spanId, traceId: outer.traceId })
})

test('never begins a span of the application before the one of its request', async (t) => {
  const { app, collector } = await traced(t)
  app.get('/', async () => withSpan('inner', () => 'ok'))
  for (let request = 0; request < 300; request++) await app.inject('/')
  const spans = await spansOf(app, collector)
  const begun = new Map(spans.map(({ spanId, startMs }) => [spanId, startMs]))
  const inner = spans.filter(({ name }) => name === 'inner')
  const early = inner.filter(({ spanId, parentSpanId }) => (begun.get(spanId) ?? 0) < (begun.get(parentSpanId) ?? 0))
  t.equal(inner.length, 300)
  t.same(early, [])
})

test('withSpan records what its function throws or rejects with, and throws it on', async (t) => {
  const { app, collector } = await traced(t, () => undefined)
  const sync = (): never => withSpan('sync', () => fail('now'))
  const late = (): Promise<never> => withSpan('late', async () => fail('later'))
  t.throws(sync, new Error('now'))
  await t.rejects(late(), new Error('later'))
  const spans = await spansOf(app, collector)
  for (const name of ['sync', 'late']) {
    t.match(named(spans, name), {
      status: 'ERROR',
      attributes: { 'error.type': 'Error' },
      events: [{ name: 'exception' }]
    })
  }
})

function fail(message: string): never {
  throw new Error(message)
}

test('leaves secrets of error messages out of its spans, and survives what it cannot read', async (t) => {
  const hostile = Object.defineProperty(new Error('hostile'), 'message', { get: () => fail('do not look') })
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async () => Promise.reject(new Error('connect failed: password=planted')))
  })
  await app.inject('/')
  t.throws(() => withSpan('mine', () => fail('token=planted')))
  await t.rejects(withSpan('hostile', async () => Promise.reject(hostile)))
  const spans = await spansOf(app, collector)
  t.equal(spans.length, 3)
  t.match(JSON.stringify(spans), /password=\[redacted\]/)
  t.notMatch(JSON.stringify(spans), 'planted')
})

test('withSpan runs its function when nothing is registered', async (t) => {
  t.equal(
    withSpan('alone', (span) => span.isRecording()),
    false
  )
})

test('a span around listen() is not the parent of the requests', async (t) => {
  const { app, collector } = await traced(t, (app) => app.get('/', async () => 'ok'))
  const url = await withSpan('boot', () => app.listen({ port: 0, host: '127.0.0.1' }))
  const { port } = new URL(url)
  for (let request = 0; request < 2; request++) {
    const socket = net.connect(Number(port), '127.0.0.1').resume()
    socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    await once(socket, 'close')
  }
  const servers = (await spansOf(app, collector)).filter(({ kind }) => kind === 'SERVER')
  t.match(servers, [{ parentSpanId: '' }, { parentSpanId: '' }])
  t.equal(new Set(servers.map(({ traceId }) => traceId)).size, 2)
})

test('ends the spans of hooks and handlers with their request, and names them in a few words', async (t) => {
  const { app, collector } = await traced(t, () => undefined, { lifecycleSpans: true })
  app.get('/', function takeOver(_request, reply) {
    reply.hijack()
    reply.raw.end('ok')
  })
  app.register(async (scope) => {
    scope.addHook('onRequest', async () => undefined)
    scope.get('/scoped', async () => 'ok')
  })
  for (const url of ['/', '/scoped']) await app.inject(url)
  const spans = await spansOf(app, collector)
  t.match(named(spans, 'request handler - takeOver'), { parentSpanId: named(spans, 'GET /').spanId })
  for (const { name } of spans) t.notMatch(name, /[\n{]|=>/)
})

test('gives the request its span', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span }) => span?.setAttribute('mine', true).spanContext().spanId)
  })
  const { body } = await app.inject('/')
  t.match(await spansOf(app, collector), [{ spanId: body, attributes: { mine: true } }])
})

test('traces neither a route that asks not to be nor what it calls', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', { config: { observability: { trace: false } } }, async () => withSpan('child', () => 'ok'))
  })
  t.equal((await app.inject('/')).body, 'ok')
  t.same(await spansOf(app, collector), [])
})

test('gives a request injected where nothing is traced no ids', async (t) => {
  let ids: unknown
  const { app, collector } = await traced(t, (app) => {
    const config = { observability: { trace: false } }
    app.get('/batch', { config }, async () => app.inject('/inner'))
    app.get('/inner', async () => {
      ids = currentObservation()?.spanContext
    })
  })
  t.equal((await app.inject('/batch')).statusCode, 200)
  t.equal(ids, undefined)
  t.same(await spansOf(app, collector), [])
})

test('exports nothing without an endpoint, but has ids', async (t) => {
  const app = Fastify()
  await app.register(tracing)
  app.get('/', async ({ span }) => span?.spanContext())
  t.match((await app.inject('/')).json(), { traceId: /^[0-9a-f]{32}$/, spanId: /^[0-9a-f]{16}$/ })
  await app.close()
})

test('takes the endpoint and the service from the standard variables', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  withEnv(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_SERVICE_NAME: 'from-env' })
  const app = Fastify()
  await app.register(tracing)
  app.get('/', async () => 'ok')
  await app.inject('/')
  t.match(await spansOf(app, collector), [{ resource: { 'service.name': 'from-env' } }])
})

test('uses a tracer provider that is already registered and starts none', async (t) => {
  const ended: string[] = []
  const spanProcessor = {
    onStart: () => undefined,
    onEnd: ({ name }: { name: string }) => void ended.push(name),
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  }
  new NodeTracerProvider({ spanProcessors: [spanProcessor] }).register()
  t.teardown(() => {
    for (const part of [trace, context, propagation]) part.disable()
  })
  const { app, collector } = await traced(t, (app) => app.get('/', async () => 'ok'))
  await app.inject('/')
  t.same(await spansOf(app, collector), [])
  t.same(ended, ['GET /'])
})

test('nests spans with a context manager that is already registered, and leaves it there', async (t) => {
  t.ok(context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable()))
  t.teardown(() => context.disable())
  const { app, collector } = await traced(t, (app) => app.get('/', async () => withSpan('child', () => 'ok')))
  await app.inject('/')
  const spans = await spansOf(app, collector)
  t.equal(named(spans, 'child').parentSpanId, named(spans, 'GET /').spanId)
  const key = createContextKey('left')
  t.equal(
    context.with(ROOT_CONTEXT.setValue(key, 1), () => context.active().getValue(key)),
    1
  )
})

test('leaves the pipeline when it could not be registered, so that the next app has its own', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const taken = Fastify()
  taken.decorateRequest('span', undefined)
  await t.rejects(async () => taken.register(tracing, { endpoint: collector.url }), /span/)
  await taken.close()
  const { app, collector: own } = await traced(t, (app) => app.get('/', async () => 'ok'))
  await app.inject('/')
  t.equal((await spansOf(app, own)).length, 1)
})

test('two apps in one process share the pipeline until both have closed', async (t) => {
  const { app, collector } = await traced(t, (app) => app.get('/a', async () => 'ok'))
  const second = Fastify()
  await second.register(tracing)
  second.get('/b', async ({ span }: { span: Span | undefined }) => span?.isRecording())
  await app.close()
  t.equal((await second.inject('/b')).body, 'true')
  t.match(await spansOf(second, collector), [{ name: 'GET /b' }])
})

test('an app that registers while another one closes has a pipeline of its own', async (t) => {
  const slow = await startCollector({ answer: () => ({ delayMs: STARVED_MS }) })
  const first = Fastify()
  await first.register(tracing, { endpoint: slow.url, shutdownTimeoutMs: PATIENCE_MS })
  first.get('/', async () => 'ok')
  await first.inject('/')
  let closed = false
  const closing = first.close().then(() => (closed = true))
  await slow.called(1)
  const { app, collector } = await traced(t, (app) => app.get('/next', async () => 'ok'))
  t.notOk(closed)
  await closing
  await slow.close()
  await app.inject('/next')
  t.match(await spansOf(app, collector), [{ name: 'GET /next' }])
})

test('closes in time and says what was lost when the collector is not there', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => lines.push(line) } } })
  await app.register(tracing, { endpoint: 'http://127.0.0.1:1' })
  app.get('/', async () => 'ok')
  t.equal((await app.inject('/')).statusCode, 200)
  const started = performance.now()
  await app.close()
  t.ok(performance.now() - started < 5_000 + STARVED_MS)
  t.match(lines.join(''), /spans could not be exported/)
})

const name = '@fastify-observability/tracing'
const REFUSED: [TracingOptions, string][] = [
  [
    { endpoint: 'localhost:4317' },
    `${name}: option "endpoint" must be an http:// or https:// URL, got 'localhost:4317'`
  ],
  [
    { endpoint: 'http://x:99999' },
    `${name}: option "endpoint" must be an http:// or https:// URL, got 'http://x:99999'`
  ]
]

test('refuses an invalid endpoint from an option', async (t) => {
  for (const [options, sentence] of REFUSED) {
    await t.rejects(async () => Fastify().register(tracing, options), new TypeError(sentence))
  }
})

test('sends the spans of instrumentations of your own, until the app closes', async (t) => {
  class OwnInstrumentation extends InstrumentationBase {
    init() {
      return []
    }
    call() {
      this.tracer.startSpan('own').end()
    }
  }
  const own = new OwnInstrumentation('own', '1.0.0', {})
  const { app, collector } = await traced(t, () => own.call(), { instrumentations: [own] })
  const spans = await spansOf(app, collector)
  own.call()
  t.match(spans, [{ name: 'own', scope: 'own' }])
  t.equal(own.isEnabled(), false)
})

test('refuses lifecycle spans that are neither on nor off, and instrumentations that are none', async (t) => {
  const refused: [object, string][] = [
    [{ lifecycleSpans: 'yes' }, 'option "lifecycleSpans" must be true or false, got \'yes\''],
    [{ instrumentations: ['pg'] }, 'option "instrumentations.0" must be an OpenTelemetry instrumentation, got \'pg\'']
  ]
  for (const [options, sentence] of refused) {
    await t.rejects(async () => Fastify().register(tracing, options), new TypeError(`${name}: ${sentence}`))
  }
})

test('has no lifecycle spans where TRACE_LIFECYCLE_SPANS is neither true nor false, with a warning', async (t) => {
  process.env.TRACE_LIFECYCLE_SPANS = 'yes'
  t.teardown(() => delete process.env.TRACE_LIFECYCLE_SPANS)
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => void lines.push(line) } } })
  t.teardown(() => app.close())
  await app.register(tracing)
  const msg = "tracing: TRACE_LIFECYCLE_SPANS must be true or false, 'yes' is ignored"
  t.match(JSON.parse(lines[0] ?? '{}'), { level: 40, msg })
})
