import { fork } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { Readable } from 'node:stream'
import { type Collector, type ReceivedSpan, startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import tracing, { withSpan } from '../src/index.ts'
import { service, TRACE_ID, TRACEPARENT } from './traced.ts'

interface Service {
  app: FastifyInstance
  url: string
  collector: Collector
}

async function listening(t: Test, downstream = ''): Promise<Service> {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const app = Fastify()
  await app.register(tracing, { service, endpoint: collector.url, shutdownTimeoutMs: PATIENCE_MS })
  app.get('/orders/:id', async () => 'ok')
  app.get('/gone', async () => Promise.reject(Object.assign(new Error('gone'), { statusCode: 410 })))
  app.get('/boom', async () => Promise.reject(new TypeError('boom')))
  app.get('/stream', async () => Readable.from(['a', 'b', 'c']))
  app.get('/broken', async () => Readable.from(brokenHalfWay()))
  app.get('/never', () => undefined)
  app.get('/nested', async () => withSpan('outer', { 'order.id': 7 }, async () => withSpan('inner', () => 'ok')))
  app.get('/fetch', async () => (await fetch(`${downstream}/charges/7`)).text())
  t.teardown(() => app.close())
  return { app, url: await app.listen({ port: 0, host: '127.0.0.1' }), collector }
}

async function* brokenHalfWay(): AsyncGenerator<string> {
  yield 'a'
  throw Object.assign(new Error('no more'), { code: 'E_SOURCE' })
}

const ID = /^[0-9a-f]{16}$/

/** The whole of a span but its random and its temporal parts. */
function whole({ startMs, durationMs, traceId, spanId, resource, events, attributes, ...rest }: ReceivedSpan) {
  const { 'exception.stacktrace': _, ...exception } = events.find(({ name }) => name === 'exception')?.attributes ?? {}
  const { 'server.port': __, 'network.peer.port': ___, ...stable } = attributes
  return { ...rest, attributes: stable, events: events.map(({ name }) => name), exception }
}

function serverSpan(name: string, path: string, attributes: Record<string, unknown>) {
  return {
    name,
    kind: 'SERVER',
    scope: '@fastify-observability/tracing',
    parentSpanId: 'b7ad6b7169203331',
    status: 'UNSET',
    statusMessage: '',
    links: [],
    events: ['http.response.first_byte'],
    exception: {},
    attributes: {
      'http.request.method': 'GET',
      ...(name !== 'GET' && { 'http.route': name.slice(4) }),
      'url.scheme': 'http',
      'url.path': path,
      'server.address': '127.0.0.1',
      'client.address': '127.0.0.1',
      'network.peer.address': '127.0.0.1',
      'network.protocol.version': '1.1',
      'user_agent.original': 'curl/8',
      'request.id': 'req-1',
      ...attributes
    }
  }
}

function exception(type: string, message: string) {
  return {
    events: ['http.response.first_byte', 'exception'],
    exception: { 'exception.type': type, 'exception.message': message }
  }
}

type Expected = ReturnType<typeof serverSpan>
const CASES: [what: string, path: string, expected: Expected][] = [
  ['success', '/orders/7', serverSpan('GET /orders/:id', '/orders/7', { 'http.response.status_code': 200 })],
  ['404', '/nowhere', serverSpan('GET', '/nowhere', { 'http.response.status_code': 404 })],
  ['a thrown 4xx', '/gone', serverSpan('GET /gone', '/gone', { 'http.response.status_code': 410 })],
  [
    'a thrown 5xx',
    '/boom',
    {
      ...serverSpan('GET /boom', '/boom', { 'http.response.status_code': 500, 'error.type': 'TypeError' }),
      ...exception('TypeError', 'boom'),
      status: 'ERROR'
    }
  ],
  ['a stream', '/stream', serverSpan('GET /stream', '/stream', { 'http.response.status_code': 200 })],
  [
    'a stream that fails half way',
    '/broken',
    {
      ...serverSpan('GET /broken', '/broken', { 'http.response.status_code': 200, 'error.type': 'E_SOURCE' }),
      ...exception('Error', 'no more'),
      status: 'ERROR'
    }
  ],
  [
    'a client that leaves',
    '/never',
    { ...serverSpan('GET /never', '/never', { 'error.type': 'client_disconnect' }), events: [] }
  ]
]

test('exports one whole server span for', async (t) => {
  for (const [what, path, expected] of CASES) {
    const { app, url, collector } = await listening(t)
    const { port } = new URL(url)
    // Not by an HTTP client of this process: that one is traced.
    const socket = net.connect(Number(port), '127.0.0.1').resume()
    socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nuser-agent: curl/8\r\n`)
    socket.write(`traceparent: ${TRACEPARENT}\r\nconnection: close\r\n\r\n`)
    if (path === '/never') app.server.once('request', () => socket.destroy())
    await once(socket, 'close')
    const span = await collector.span(({ kind }) => kind === 'SERVER')
    t.same(whole(span), expected, what)
    t.match(span, { traceId: TRACE_ID, spanId: ID })
    await app.close()
    t.equal(collector.spans.length, 1, 'and no other')
  }
})

test('exports whole nested spans below it', async (t) => {
  const { url, collector } = await listening(t)
  await (await fetch(`${url}/nested`)).text()
  const server = await collector.span(({ kind, name }) => kind === 'SERVER' && name === 'GET /nested')
  const outer = await collector.span(({ name }) => name === 'outer')
  const inner = await collector.span(({ name }) => name === 'inner')
  const manual = {
    kind: 'INTERNAL',
    scope: '@fastify-observability/tracing',
    status: 'UNSET',
    statusMessage: '',
    links: []
  }
  const empty = { events: [], exception: {} }
  t.same(whole(outer), {
    ...manual,
    ...empty,
    name: 'outer',
    parentSpanId: server.spanId,
    attributes: { 'order.id': 7 }
  })
  t.same(whole(inner), { ...manual, ...empty, name: 'inner', parentSpanId: outer.spanId, attributes: {} })
})

test('a call to a second process is one tree: server, client, server', async (t) => {
  const downstream = await startCollector()
  t.teardown(() => downstream.close())
  const child = fork(new URL('downstream.ts', import.meta.url), {
    env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: downstream.url }
  })
  t.teardown(() => child.kill())
  const [address] = await once(child, 'message')
  const { url, collector } = await listening(t, String(address))
  t.equal(await (await fetch(`${url}/fetch`)).text(), 'charged')
  const server = await collector.span(({ name }) => name === 'GET /fetch')
  const client = await collector.span(({ kind, parentSpanId }) => kind === 'CLIENT' && parentSpanId === server.spanId)
  const charge = await downstream.span(({ kind }) => kind === 'SERVER')
  t.match(charge, { traceId: server.traceId, parentSpanId: client.spanId, name: 'GET /charges/:id', status: 'UNSET' })
  t.equal(client.attributes['network.peer.port'], Number(new URL(String(address)).port))
  t.same(whole(client), {
    name: 'GET',
    kind: 'CLIENT',
    scope: '@opentelemetry/instrumentation-undici',
    parentSpanId: server.spanId,
    status: 'UNSET',
    statusMessage: '',
    links: [],
    events: [],
    exception: {},
    attributes: {
      'http.request.method': 'GET',
      'http.request.method_original': 'GET',
      'http.response.status_code': 200,
      'network.peer.address': '127.0.0.1',
      'network.protocol.version': '1.1',
      'server.address': '127.0.0.1',
      'url.full': `${address}/charges/7`,
      'url.path': '/charges/7',
      'url.query': '',
      'url.scheme': 'http',
      'user_agent.original': 'node'
    }
  })
})
