import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import net from 'node:net'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import tracing from '../src/index.ts'
import { spansOf, traced, withEnv } from './traced.ts'

/** The server span of one request, written to a socket as it stands. */
async function spanOf(t: Test, line: string, declare: (app: FastifyInstance) => void = () => undefined) {
  const { app, collector } = await traced(t, (app) => {
    declare(app)
    app.get('/orders/:id', async () => 'ok')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = new URL(app.listeningOrigin)
  const socket = net.connect(Number(port), '127.0.0.1').resume()
  socket.write(`${line} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n`)
  const localPort = await once(socket, 'connect').then(() => socket.localPort)
  await once(socket, 'close')
  const [span] = await spansOf(app, collector)
  return { ...span, localPort }
}

test('names the span of an unknown method HTTP, and keeps the method', async (t) => {
  const { name, attributes } = await spanOf(t, 'PROPFIND /nowhere')
  t.equal(name, 'HTTP')
  t.match(attributes, { 'http.request.method': '_OTHER', 'http.request.method_original': 'PROPFIND' })
})

test('knows a method that the app has added', async (t) => {
  const { name, attributes } = await spanOf(t, 'MKCOL /orders/7', (app) => {
    app.addHttpMethod('MKCOL')
    app.route({ method: 'MKCOL', url: '/orders/:id', handler: async () => 'ok' })
  })
  t.equal(name, 'MKCOL /orders/:id')
  t.notOk('http.request.method_original' in (attributes ?? {}))
})

test('takes the path of a target in absolute form', async (t) => {
  const { name, attributes } = await spanOf(t, 'GET http://shop.example/orders/7?page=2')
  t.equal(name, 'GET /orders/:id')
  t.match(attributes, { 'url.path': '/orders/7', 'url.query': 'page=2' })
})

test('takes the root for the path of an absolute target without one', async (t) => {
  const { attributes } = await spanOf(t, 'GET http://shop.example?page=2')
  t.match(attributes, { 'url.path': '/', 'url.query': 'page=2' })
})

test('names the peer of the connection', async (t) => {
  const { attributes, localPort } = await spanOf(t, 'GET /orders/7')
  t.match(attributes, { 'network.peer.address': '127.0.0.1', 'network.peer.port': localPort })
})

test('names the scheme of requests that Fastify answers before any hook', async (t) => {
  const { attributes } = await spanOf(t, 'GET /%c0')
  t.match(attributes, { 'url.scheme': 'http', 'http.response.status_code': 400 })
})

test('keeps the span and the scheme when trustProxy throws', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const app = Fastify({
    trustProxy() {
      throw new Error('in the function')
    }
  })
  await app.register(tracing, { endpoint: collector.url, shutdownTimeoutMs: PATIENCE_MS })
  app.get('/', async () => 'ok')
  await app.inject({ url: '/', headers: { 'x-forwarded-for': '10.0.0.1' } })
  const [span] = await spansOf(app, collector)
  t.match(span?.attributes, { 'url.scheme': 'http', 'client.address': '127.0.0.1' })
})

test('calls HTTP/2 by its version 2', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const app = Fastify({ http2: true })
  await app.register(tracing, { endpoint: collector.url, shutdownTimeoutMs: PATIENCE_MS })
  app.get('/', async () => 'ok')
  const session = connectHttp2(await app.listen({ port: 0, host: '127.0.0.1' }))
  await once(session.request({ ':path': '/' }).resume(), 'close')
  session.close()
  const [span] = (await spansOf(Object(app), collector)).filter(({ kind }) => kind === 'SERVER')
  t.match(span?.attributes, { 'network.protocol.version': '2', 'network.peer.address': '127.0.0.1' })
})

test('names ids that a plugin registered later decides', async (t) => {
  const { app, collector } = await traced(t)
  const { registryOf } = await import('@fastify-observability/observation/internal')
  registryOf(app).observe({
    name: 'later',
    start(observation) {
      observation.correlationId = 'c1'
    }
  })
  app.get('/', async () => 'ok')
  await app.inject('/')
  const [span] = await spansOf(app, collector)
  t.match(span?.attributes, { 'correlation.id': 'c1', 'request.id': 'req-1' })
})

test('keeps maps and null in attributes, without the secrets in them', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span }) => {
      span?.setAttribute('order', { id: 7, none: null, password: 'planted', notes: [{ text: 'token=planted' }] })
      span?.setAttribute('nothing', null)
    })
  })
  await app.inject('/')
  const [span] = await spansOf(app, collector)
  t.notMatch(JSON.stringify(span), 'planted')
  t.match(span?.attributes.order, { id: 7, password: '[redacted]', notes: [{ text: 'token=[redacted]' }] })
  t.ok('nothing' in (span?.attributes ?? {}))
})

test('counts the events and links that the limits leave out', async (t) => {
  withEnv(t, {
    OTEL_SPAN_EVENT_COUNT_LIMIT: '1',
    OTEL_SPAN_LINK_COUNT_LIMIT: '0',
    OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT: '1'
  })
  let dropped: unknown
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span }) => {
      for (const name of ['one', 'two']) span?.addEvent(name, { a: 1, b: 2 })
      if (span) span.addLink({ context: span.spanContext() })
      const { events, links, droppedEventsCount, droppedLinksCount } = Object(span)
      dropped = structuredClone({ events, links, droppedEventsCount, droppedLinksCount })
    })
  })
  await app.inject('/')
  await spansOf(app, collector)
  t.match(dropped, { links: [], droppedEventsCount: 1, droppedLinksCount: 1 })
  t.match(dropped, { events: [{ name: 'two', attributes: { a: 1 }, droppedAttributesCount: 1 }] })
})

test('survives an event whose name cannot be read', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span }) => {
      if (span) Reflect.apply(span.addEvent, span, [Object.create(null)])
    })
  })
  await app.inject('/')
  const [span] = await spansOf(app, collector)
  t.match(span?.events, [{ name: '[unreadable]' }, { name: 'http.response.first_byte' }])
})

for (const option of ['isError', 'trustInbound']) {
  test(`survives an async ${option} that rejects`, async (t) => {
    const options = Object.assign({}, { [option]: async () => Promise.reject(new Error('lookup failed')) })
    const { app, collector } = await traced(t, (app) => app.get('/', async () => 'ok'), options)
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
    await app.inject({ url: '/', headers: { traceparent } })
    const [span] = await spansOf(app, collector)
    t.equal(span?.status, 'UNSET')
    t.equal(span?.traceId === 'a'.repeat(32), option === 'isError', 'takes the safe side')
  })
}
