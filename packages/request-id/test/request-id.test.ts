import { channel } from 'node:diagnostics_channel'
import { EventEmitter, once } from 'node:events'
import { createServer, get, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { connect, type Server } from 'node:net'
import { Readable } from 'node:stream'
import { json, text } from 'node:stream/consumers'
import { mock } from 'node:test'
import proxy from '@fastify/http-proxy'
import { registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { type Test, test } from 'tap'
import requestId, { type RequestIdOptions } from '../src/index.ts'
import { uuidv7 } from '../src/uuid.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

async function service(options: RequestIdOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(requestId, options)
  app.get('/', async (request) => request.id)
  app.get('/boom', async () => Promise.reject(new Error('boom')))
  return app
}

/** The origin of a server of the test's own. */
async function listening(t: Test, server: Server): Promise<string> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' && address?.port}`
}

test('generates an id, gives it to the request and echoes it', async (t) => {
  const app = await service()
  const { headers, body } = await app.inject('/')
  t.match(headers['x-request-id'], UUID)
  t.equal(headers['x-request-id'], body)
})

test('keeps a safe inbound id', async (t) => {
  const app = await service()
  const { headers } = await app.inject({ url: '/', headers: { 'X-Request-Id': 'edge-1.2:3@a+b/c=d' } })
  t.equal(headers['x-request-id'], 'edge-1.2:3@a+b/c=d')
})

const UNSAFE = ['a b', '', 'x'.repeat(129), 'a\tb', 'é', ['$', '{jndi:ldap://x}'].join(''), '<script>', 'a,b']

test('replaces an id that is empty, long, or not plain', async (t) => {
  const app = await service()
  for (const id of UNSAFE) {
    const { headers } = await app.inject({ url: '/', headers: { 'x-request-id': id, 'x-correlation-id': id } })
    t.match(headers['x-request-id'], UUID, JSON.stringify(id).slice(0, 40))
    t.equal(headers['x-correlation-id'], headers['x-request-id'])
  }
})

test('takes the correlation id from the caller, else the request id', async (t) => {
  const app = await service()
  const { headers } = await app.inject({ url: '/', headers: { 'x-correlation-id': 'order-7' } })
  t.equal(headers['x-correlation-id'], 'order-7')
  t.match(headers['x-request-id'], UUID)
})

test('sends both with errors and unmatched routes', async (t) => {
  const app = await service()
  for (const url of ['/boom', '/nowhere']) {
    const { headers } = await app.inject({ url, headers: { 'x-request-id': 'r', 'x-correlation-id': 'c' } })
    t.match(headers, { 'x-request-id': 'r', 'x-correlation-id': 'c' }, url)
  }
})

test('sends both with streams, hijacked replies and URLs that cannot be decoded', async (t) => {
  const app = await service()
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(['a'])))
  app.get('/hijack', (_request, reply) => void reply.hijack().raw.writeHead(202).end())
  t.teardown(() => app.close())
  const { port, hostname } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  for (const url of ['/stream', '/hijack', '/%c0']) {
    const client = connect(Number(port), hostname)
    client.write(
      `GET ${url} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: r\r\nx-correlation-id: c\r\n\r\n`
    )
    const answer = await text(client)
    t.match(answer, /^x-request-id: r\r$/m, url)
    t.match(answer, /^x-correlation-id: c\r$/m)
    t.match(answer, /^server-timing: total;dur=\d+\.\d\r$/m)
  }
})

test('sends both with the 503 of an app that is closing', async (t) => {
  const app = await service()
  const asked = new EventEmitter()
  app.get('/hold', async () => {
    asked.emit('request')
    await once(asked, 'go')
    return 'held'
  })
  const { port, hostname } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const client = connect(Number(port), hostname)
  client.write('GET /hold HTTP/1.1\r\nhost: x\r\n\r\n')
  await once(asked, 'request')
  const closed = app.close()
  app.server.once('request', () => asked.emit('go'))
  client.write('GET / HTTP/1.1\r\nhost: x\r\nx-request-id: late\r\n\r\n')
  const answers = await text(client)
  await closed
  t.match(answers, /HTTP\/1.1 503 Service Unavailable\r\n(?:.+\r\n)*x-request-id: late\r\n/)
})

test('generates ids that are unique and sort by their time', async (t) => {
  const since = Date.now()
  const ids = Array.from({ length: 10_000 }, uuidv7)
  t.equal(new Set(ids).size, 10_000)
  const times = ids.map((id) => id.slice(0, 13))
  t.same(times, times.toSorted())
  const last = Number.parseInt(times.at(-1)?.replace('-', '') ?? '', 16)
  t.ok(since <= last && last <= Date.now(), `${last}`)
})

test('begins ids with the time in milliseconds, also where its upper bytes change', (t) => {
  t.teardown(() => mock.timers.reset())
  for (const now of [1_795_392_000_000, 0x19a_ffff_ffff, 0x19b_0000_0000, 0x19b_0000_0001, 0x1234_5678_9abc]) {
    mock.timers.reset()
    mock.timers.enable({ apis: ['Date'], now })
    t.equal(uuidv7().replace('-', '').slice(0, 12), now.toString(16).padStart(12, '0'))
  }
  t.end()
})

const PREDICATES: [string, RequestIdOptions['trustInbound'], boolean][] = [
  ['true', true, true],
  ['false', false, false],
  ['a predicate', ({ headers }) => headers['x-edge'] === 'yes', true],
  ['a predicate that returns false', () => false, false],
  ['a predicate that throws', () => JSON.parse('{'), false],
  ['an async predicate', (async () => true) as never, false],
  ['an async predicate that rejects', (async () => Promise.reject(new Error('no'))) as never, false]
]

test('keeps inbound ids only where trustInbound says so', async (t) => {
  for (const [title, trustInbound, kept] of PREDICATES) {
    const app = await service({ trustInbound })
    const headers = { 'x-request-id': 'r', 'x-correlation-id': 'c', 'x-edge': 'yes' }
    const answer = (await app.inject({ url: '/', headers })).headers
    t.equal(answer['x-request-id'] === 'r', kept, title)
    t.equal(answer['x-correlation-id'] === 'c', kept)
  }
})

test('checks ids that Fastify has taken by its own requestIdHeader', async (t) => {
  const app = Fastify({ requestIdHeader: 'x-request-id' })
  await app.register(requestId)
  app.get('/', async (request) => request.id)
  const unsafe = await app.inject({ url: '/', headers: { 'x-request-id': '<script>' } })
  t.match(unsafe.headers['x-request-id'], UUID)
  t.equal(unsafe.body, unsafe.headers['x-request-id'])
  t.equal((await app.inject({ url: '/', headers: { 'x-request-id': 'safe' } })).body, 'safe')
})

const ROOT = 'Root=1-67891233-abcdef012345678912345678'
const GENERATORS: [string, FastifyServerOptions, (app: FastifyInstance) => unknown, string | RegExp][] = [
  ['genReqId', { genReqId: () => 'order-42' }, () => undefined, 'order-42'],
  ['setGenReqId before', {}, (app) => app.setGenReqId(() => 'mine'), 'mine'],
  ['requestIdHeader', { requestIdHeader: 'x-amzn-trace-id' }, () => undefined, ROOT],
  ['requestIdHeader, absent', { requestIdHeader: 'x-other', genReqId: () => 'own' }, () => undefined, 'own'],
  ['requestIdHeader, absent, by default', { requestIdHeader: 'x-other' }, () => undefined, UUID],
  ['an id that no header can carry', { genReqId: () => 'a\r\nb' }, () => undefined, UUID],
  ['a generator that throws', { genReqId: () => JSON.parse('{') }, () => undefined, UUID],
  ['an async generator', { genReqId: Object(async () => 'late') }, () => undefined, UUID],
  ['a number', { genReqId: Object(() => 42) }, () => undefined, '42'],
  ['an empty id', { genReqId: () => '' }, () => undefined, UUID],
  ['an object', { genReqId: Object(() => ({ id: 7 })) }, () => undefined, UUID],
  ['an object without a text', { genReqId: Object(() => Object.create(null)) }, () => undefined, UUID],
  ['requestIdHeader: false', { requestIdHeader: false }, () => undefined, UUID]
]

test('keeps the id that the application generates where no safe one comes in', async (t) => {
  for (const [title, options, prepare, expected] of GENERATORS) {
    const app = Fastify(options)
    prepare(app)
    await app.register(requestId)
    app.get('/', async (request) => request.id)
    const { body, headers } = await app.inject({ url: '/', headers: { 'x-amzn-trace-id': ROOT } })
    t.match(body, expected, title)
    t.equal(headers['x-request-id'], body)
    t.equal((await app.inject({ url: '/', headers: { 'x-request-id': 'edge-1' } })).body, 'edge-1')
  }
})

test('keeps the id that a scope of the application generates', async (t) => {
  const app = await service()
  app.register(async (scope: FastifyInstance) => {
    scope.setGenReqId(() => 'scoped-7')
    scope.get('/scoped', async (request) => request.id)
  })
  const { body, headers } = await app.inject('/scoped')
  t.same([body, headers['x-request-id']], ['scoped-7', 'scoped-7'])
  t.equal((await app.inject({ url: '/scoped', headers: { 'x-request-id': 'edge-1' } })).body, 'edge-1')
})

test('logs why an inbound id was replaced, never its value', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'debug', stream: { write: (line: string) => lines.push(line) } } })
  await app.register(requestId)
  await app.inject({ url: '/', headers: { 'x-request-id': 'planted secret' } })
  t.match(JSON.parse(lines[0] ?? '{}'), { header: 'x-request-id', length: 14, reason: 'unsafe characters' })
  t.notMatch(lines.join(''), 'planted')
})

const LIST = ['authorization', 'Bearer abc', 'x-tenant', 't1', 'host', 'shop.example']

/** A service that calls another one by fetch and by http, and answers with the headers that arrived there. */
async function caller(t: Test, options: RequestIdOptions = {}): Promise<FastifyInstance> {
  const peer = createServer((request, response) => response.end(JSON.stringify(request.headers))).listen(0, '127.0.0.1')
  await once(peer, 'listening')
  t.teardown(() => peer.close())
  const address = peer.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
  const app = await service(options)
  app.get('/fetch', async () => (await fetch(url)).json())
  app.get('/http', async () => {
    const [response]: IncomingMessage[] = await once(get(url), 'response')
    return response && json(response)
  })
  app.get('/list', async () => {
    const [response]: IncomingMessage[] = await once(get(url, { headers: LIST }), 'response')
    return response && json(response)
  })
  app.get('/own-list', async () => {
    const [response]: IncomingMessage[] = await once(
      get(url, { headers: ['host', 'h', 'X-Request-Id', 'own'] }),
      'response'
    )
    return response && json(response)
  })
  app.get('/own', async () => (await fetch(url, { headers: { 'X-Request-Id': 'own' } })).json())
  t.teardown(() => app.close())
  return app
}

const inbound = { 'x-request-id': 'r', 'x-correlation-id': 'c' }

test('propagates both with the calls made while serving, over fetch and http', async (t) => {
  const app = await caller(t)
  for (const url of ['/fetch', '/http']) t.match((await app.inject({ url, headers: inbound })).json(), inbound, url)
  const own = (await app.inject({ url: '/own', headers: inbound })).json()
  t.match(own, { 'x-request-id': 'own', 'x-correlation-id': 'c' }, 'but keeps the id that the handler has set')
})

test('adds both to headers given as a list, which go out as given', async (t) => {
  const app = await caller(t)
  const sent = (await app.inject({ url: '/list', headers: inbound })).json()
  const given = { authorization: 'Bearer abc', 'x-tenant': 't1', host: 'shop.example' }
  t.same(sent, { ...given, connection: sent.connection, ...inbound })
  const own = (await app.inject({ url: '/own-list', headers: inbound })).json()
  t.match(own, { host: 'h', 'x-request-id': 'own', 'x-correlation-id': 'c' })
  t.equal('x-request-id' in (await (await caller(t, { propagateTo: [] })).inject('/list')).json(), false)
})

for (const undici of [true, false]) {
  test(`gives a proxied answer and the upstream its own ids, over ${undici ? 'undici' : 'http'}`, async (t) => {
    const received: IncomingHttpHeaders[] = []
    const upstream = createServer(({ headers }, response) => {
      received.push(headers)
      response.writeHead(200, { 'x-request-id': 'upstream-77', 'server-timing': 'db;dur=5' }).end('ok')
    })
    await once(upstream.listen(0, '127.0.0.1'), 'listening')
    const app = await service({ trustInbound: false })
    const address = upstream.address()
    app.register(proxy, {
      upstream: `http://127.0.0.1:${typeof address === 'object' && address?.port}`,
      prefix: '/api',
      ...(undici ? {} : { http: {} })
    })
    t.teardown(() => Promise.all([app.close(), upstream.close()]))
    const { headers } = await app.inject({ url: '/api/x', headers: { 'x-request-id': 'spoofed "id"' } })
    t.match(headers['x-request-id'], UUID)
    t.match(received, [{ 'x-request-id': headers['x-request-id'], 'x-correlation-id': headers['x-correlation-id'] }])
    t.match(headers['server-timing'], /^db;dur=5, total;dur=\d+\.\d$/)
  })
}

test('gives an answer that a handler forwards by itself its own ids, however it writes the headers', async (t) => {
  const forwarded = { 'X-Request-Id': 'upstream-77', 'x-correlation-id': 'upstream-78', 'x-own': '1' }
  for (const head of [[forwarded], ['Fine', forwarded], [Object.entries(forwarded).flat()]]) {
    const app = await service()
    app.get('/forward', (_request, reply) => {
      const { raw } = reply.hijack()
      Reflect.apply(raw.writeHead, raw, [200, ...head])
      raw.end('forwarded')
    })
    const ids = { 'x-request-id': 'r1', 'x-correlation-id': 'c1' }
    t.match((await app.inject({ url: '/forward', headers: ids })).headers, { ...ids, 'x-own': '1' })
  }
  t.match(forwarded, { 'X-Request-Id': 'upstream-77' })
})

test('gives an upstream over HTTP/2 the id that rewriteRequestHeaders adds, and the answer the same', async (t) => {
  const received: IncomingHttpHeaders[] = []
  const upstream = createHttp2Server(({ headers }, response) => {
    received.push(headers)
    response.writeHead(200, { 'x-request-id': 'upstream-77' }).end('ok')
  })
  const app = await service({ trustInbound: false })
  app.register(proxy, {
    upstream: await listening(t, upstream),
    prefix: '/api',
    http2: true,
    replyOptions: { rewriteRequestHeaders: ({ id }, headers) => ({ ...headers, 'x-request-id': id }) }
  })
  t.teardown(() => app.close())
  const { headers } = await app.inject({ url: '/api/x', headers: { 'x-request-id': 'spoofed "id"' } })
  t.match(headers['x-request-id'], UUID)
  t.match(received, [{ 'x-request-id': headers['x-request-id'] }])
})

test('propagates them only to hosts that propagateTo names, by name, subdomain or pattern', async (t) => {
  for (const [propagateTo, sent] of [
    [[], false],
    [['example.com', /^10\./], false],
    [['127.0.0.1'], true],
    [['0.0.1'], true],
    [[/^127\./g], true],
    [[/^127\./], true]
  ] as const) {
    const app = await caller(t, { propagateTo: [...propagateTo] })
    for (const url of ['/fetch', '/http']) {
      t.equal('x-request-id' in (await app.inject(url)).json(), sent, `${propagateTo} ${url}`)
    }
  }
})

test('sends none with calls made outside of requests', async (t) => {
  const echo = await service()
  echo.get('/echo', async ({ headers }) => headers)
  t.teardown(() => echo.close())
  const url = await echo.listen({ port: 0, host: '127.0.0.1' })
  t.notMatch(await (await fetch(`${url}/echo`)).text(), 'x-request-id')
})

test('sends none with the calls that a handler makes after its request has ended', async (t) => {
  const app = await service()
  const { promise: late, resolve } = Promise.withResolvers<Response>()
  app.get('/echo', async ({ headers }) => headers)
  app.get('/early', async (_request, reply) => {
    reply.raw.once('close', () => resolve(fetch(`${url}/echo`)))
    return 'ok'
  })
  t.teardown(() => app.close())
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  await (await fetch(`${url}/early`)).text()
  t.notMatch(await (await late).text(), 'x-request-id')
})

test('adds both to the headers of undici 5, which are one text', async (t) => {
  const app = await service()
  const request = { origin: 'http://shop.example', headers: 'accept: */*\r\n', addHeader: () => t.fail('has a list') }
  app.get('/old', async () => channel('undici:request:create').publish({ request }))
  t.teardown(() => app.close())
  await app.inject({ url: '/old', headers: inbound })
  t.equal(request.headers, 'accept: */*\r\nx-request-id: r\r\nx-correlation-id: c\r\n')
})

test('sends how long the answer took, beside the timings of the app', async (t) => {
  const app = await service()
  app.get('/own', async (_request, reply) => reply.header('server-timing', 'db;dur=1').send('ok'))
  t.match((await app.inject('/')).headers['server-timing'], /^total;dur=\d+\.\d$/)
  t.match((await app.inject('/own')).headers['server-timing'], /^db;dur=1, total;dur=\d+\.\d$/)
  t.equal((await (await service({ serverTiming: false })).inject('/')).headers['server-timing'], undefined)
})

test('sends it with a stream, also beside the timings of the app', async (t) => {
  const app = await service()
  app.get('/stream', (_request, reply) => reply.header('server-timing', 'db;dur=5').send(Readable.from(['ok'])))
  app.get('/list', (_request, reply) =>
    reply.header('server-timing', ['a;dur=1', 'b;dur=2']).send(Readable.from(['ok']))
  )
  app.get('/bare', (_request, reply) => reply.send(Readable.from(['ok'])))
  const timing = async (url: string) => (await app.inject(url)).headers['server-timing']
  t.match(await timing('/stream'), /^db;dur=5, total;dur=\d+\.\d$/)
  t.match(await timing('/list'), /^a;dur=1,b;dur=2, total;dur=\d+\.\d$/)
  t.match(await timing('/bare'), /^total;dur=\d+\.\d$/)
})

const SPAN_ID = 'b7ad6b7169203331'

test('sends the traceparent of sampled requests in server-timing, unless it is switched off', async (t) => {
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  for (const [traceFlags, serverTiming, sent] of [
    [1, true, true],
    [0, true, false],
    [1, { traceparent: false }, false]
  ] as const) {
    const app = await service({ serverTiming })
    registryOf(app).observe({
      name: 'tracer',
      start: (observation) => void Object.assign(observation, { spanContext: { traceId, spanId: SPAN_ID, traceFlags } })
    })
    const { headers } = await app.inject('/')
    const traceparent = `traceparent;desc="00-${traceId}-${SPAN_ID}-01"`
    t.equal(String(headers['server-timing']).replace(/total;dur=\d+\.\d/, ''), sent ? `, ${traceparent}` : '')
  }
})

test('reads and writes other headers on request', async (t) => {
  const app = await service({ header: 'X-Amzn-Trace-Id', correlationHeader: 'X-Flow' })
  const { headers } = await app.inject({ url: '/', headers: { 'x-amzn-trace-id': 'a', 'x-flow': 'f' } })
  t.match(headers, { 'x-amzn-trace-id': 'a', 'x-flow': 'f' })
})

test('rejects an invalid header name', async (t) => {
  const name = '@fastify-observability/request-id'
  await t.rejects(
    service({ header: 'a b' }),
    new TypeError(`${name}: option "header" must be a header name, got 'a b'`)
  )
})
