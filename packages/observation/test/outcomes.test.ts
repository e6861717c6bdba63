import { EventEmitter, once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { test } from 'tap'
import { WebSocket } from 'ws'
import observation, { type Outcome, type Refusal } from '../src/index.ts'

type Seen = Partial<Outcome> & { route?: string; clientAddress?: string | undefined; refused?: true }

/** Collects what the observers of an app see; `next` awaits one, `rest` is what nobody asked for. */
async function watch(app: FastifyInstance) {
  const rest: Seen[] = []
  const arrivals = new EventEmitter()
  const see = (seen: Seen): void => {
    rest.push(seen)
    arrivals.emit('seen')
  }
  await app.register(observation)
  app.observation.observe({
    name: 'test',
    end: ({ route, clientAddress }, outcome) => see({ route, clientAddress, ...outcome }),
    malformed: ({ statusCode, errorType }: Refusal) => see({ refused: true, statusCode, errorType })
  })
  const next = async (): Promise<Seen> => {
    if (rest.length === 0) await once(arrivals, 'seen')
    return rest.shift() ?? next()
  }
  return { next, rest }
}

function open(app: FastifyInstance, data: string): Socket {
  const { port, hostname } = new URL(app.listeningOrigin)
  const client = connect(Number(port), hostname).on('error', () => undefined)
  client.write(data)
  return client
}

function requestText({ method = 'GET', url = '/', headers = {}, payload = '' }: InjectOptions): string {
  const body = String(payload)
  const all = { host: 'x', connection: 'close', 'content-length': body.length, ...headers }
  const given = Object.entries(all).filter(([, value]) => value !== undefined)
  const head = given.map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${url} HTTP/1.1\r\n${head.join('')}\r\n${body}`
}

const thrower = (error: unknown) => async (): Promise<never> => {
  throw error
}
function thrown(): never {
  throw new Error('no proxy is known')
}
const FAULT = Object.assign(new TypeError('no'), { code: 'E_NO' })
const HOSTILE = Object.defineProperty(new Error('hostile'), 'code', {
  get() {
    throw new Error('do not look')
  }
})
const CHUNKED = { 'transfer-encoding': 'chunked', 'content-length': undefined }
const json = { 'content-type': 'application/json' }

async function* failing(): AsyncGenerator<string> {
  yield 'half'
  throw FAULT
}

function routes(app: FastifyInstance): void {
  app.get('/orders/:id', async () => 'order')
  app.get('/empty', async (_request, reply) => reply.code(204).send())
  app.get('/error', thrower(FAULT))
  app.get('/null', thrower(null))
  app.get('/string', thrower('text'))
  app.get('/frozen', thrower(Object.freeze(new RangeError('frozen'))))
  app.get('/hostile', thrower(HOSTILE))
  app.get('/405', async (_request, reply) => reply.code(405).send('no'))
  app.get('/500', async (_request, reply) => reply.code(500).send('sorry'))
  app.post('/body', { bodyLimit: 4 }, async () => 'ok')
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(['one', 'two'])))
  app.get('/failing', async (_request, reply) => reply.send(Readable.from(failing())))
  app.get('/hijack', (_request, reply) => void reply.hijack().raw.writeHead(202).end('hijacked'))
  app.register(async (scope: FastifyInstance) => {
    scope.setErrorHandler((_error, _request, reply) => reply.code(404).send('mapped'))
    scope.get('/mapped', thrower(FAULT))
  })
}

const CASES: [string, InjectOptions, Seen][] = [
  ['success', { url: '/orders/7?q=1' }, { route: '/orders/:id', statusCode: 200, responseBytes: 5, aborted: false }],
  ['an answer without a body', { url: '/empty' }, { statusCode: 204, responseBytes: 0 }],
  ['HEAD', { method: 'HEAD', url: '/orders/7' }, { route: '/orders/:id', statusCode: 200, responseBytes: 0 }],
  ['a thrown error', { url: '/error' }, { statusCode: 500, error: FAULT, errorType: 'E_NO' }],
  ['a thrown null', { url: '/null' }, { statusCode: 500, error: null, errorType: '500' }],
  ['a thrown string', { url: '/string' }, { statusCode: 500, errorType: '500' }],
  ['a frozen error', { url: '/frozen' }, { statusCode: 500, errorType: 'RangeError' }],
  ['an error that throws when looked at', { url: '/hostile' }, { statusCode: 500, errorType: '500' }],
  ['a 500 without an error', { url: '/500' }, { statusCode: 500, error: undefined, errorType: '500' }],
  ['an error handler that answers 404', { url: '/mapped' }, { statusCode: 404, error: FAULT, errorType: undefined }],
  ['404', { url: '/nowhere' }, { route: 'unmatched', statusCode: 404, errorType: undefined }],
  ['405', { url: '/405' }, { route: '/405', statusCode: 405 }],
  ['413', { method: 'POST', url: '/body', headers: json, payload: '"too long"' }, { route: '/body', statusCode: 413 }],
  ['415', { method: 'POST', url: '/body', headers: { 'content-type': 'a/b' }, payload: 'x' }, { statusCode: 415 }],
  ['a body that does not parse', { method: 'POST', url: '/body', headers: json, payload: '{"' }, { statusCode: 400 }],
  ['a stream', { url: '/stream' }, { statusCode: 200, responseBytes: 6, aborted: false }],
  ['a hijacked reply', { url: '/hijack' }, { route: '/hijack', statusCode: 202, responseBytes: 8, aborted: false }]
]

test('gives one outcome, the same over inject and over a socket, for', async (t) => {
  const app = Fastify()
  const { next, rest } = await watch(app)
  routes(app)
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [title, request, expected] of CASES) {
    await app.inject(request)
    t.match(await next(), expected, `${title}, injected`)
    await text(open(app, requestText(request)))
    const seen = await next()
    t.match(seen, { headersSent: true, ...expected }, `${title}, over a socket`)
    const { durationMs = 0, ttfbMs = Number.NaN } = seen
    t.ok(ttfbMs > 0 && ttfbMs <= durationMs, 'with the time to its first byte')
  }
  t.same(rest, [], 'and no second one')
})

const SOCKET_CASES: [string, string, Seen[]][] = [
  ['a URL that cannot be decoded', requestText({ url: '/%c0' }), [{ route: 'unmatched', statusCode: 400 }]],
  ['a parameter that is too long', requestText({ url: `/orders/${'x'.repeat(200)}` }), [{ statusCode: 414 }]],
  ['malformed HTTP', 'GARBAGE\r\n\r\n', [{ refused: true, statusCode: 400, errorType: 'HPE_INVALID_METHOD' }]],
  [
    'headers that are too large',
    requestText({ headers: { big: 'x'.repeat(20_000) } }),
    [{ refused: true, statusCode: 431 }]
  ],
  [
    'a body that the parser refuses',
    `${requestText({ method: 'POST', url: '/body', headers: { ...json, ...CHUNKED } })}ZZ\r\n`,
    [{ route: '/body', statusCode: 400, headersSent: true, aborted: false, errorType: 'HPE_INVALID_CHUNK_SIZE' }]
  ],
  [
    'a stream that fails half way',
    requestText({ url: '/failing' }),
    [{ statusCode: 200, aborted: true, error: FAULT, errorType: 'E_NO', responseBytes: 4 }]
  ],
  [
    'requests that reuse a connection, pipelined',
    requestText({ url: '/stream', headers: { connection: 'keep-alive' } }) + requestText({ url: '/error' }),
    [
      { route: '/stream', statusCode: 200, responseBytes: 6 },
      { route: '/error', statusCode: 500 }
    ]
  ]
]

test('gives one outcome over a socket for', async (t) => {
  const app = Fastify()
  const { next, rest } = await watch(app)
  routes(app)
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [title, data, expected] of SOCKET_CASES) {
    await text(open(app, data)).catch(() => undefined)
    for (const outcome of expected) t.match(await next(), outcome, title)
  }
  t.same(rest, [], 'and no second one')
})

test('sees a client that leaves before the headers as 499 and aborted, answered late or never', async (t) => {
  const app = Fastify()
  const { next, rest } = await watch(app)
  const asked = new EventEmitter()
  app.get('/late', async (request) => {
    asked.emit('request')
    await once(request.raw.socket, 'close')
    return 'late'
  })
  app.get('/never', () => void asked.emit('request'))
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const url of ['/late', '/never']) {
    const client = open(app, requestText({ url }))
    await once(asked, 'request')
    client.destroy()
    const expected = { statusCode: 499, headersSent: false, aborted: true, errorType: 'client_disconnect' }
    t.match(await next(), { route: url, ttfbMs: undefined, responseBytes: 0, ...expected })
  }
  await app.close()
  t.same(rest, [])
})

async function* endless(): AsyncGenerator<string> {
  for (;;) yield await wait(1, 'data: tick\n\n')
}

test('sees a client that leaves in the middle of a stream, server-sent events or not, with the status it got', async (t) => {
  const app = Fastify()
  const { next } = await watch(app)
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(endless())))
  app.get('/events', async (_request, reply) => {
    reply.hijack().raw.writeHead(200, { 'content-type': 'text/event-stream' })
    for await (const event of endless()) if (reply.raw.destroyed || !reply.raw.write(event)) return
  })
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const url of ['/stream', '/events']) {
    const client = open(app, requestText({ url }))
    await once(client, 'data')
    client.destroy()
    t.match(await next(), {
      route: url,
      statusCode: 200,
      headersSent: true,
      aborted: true,
      errorType: 'client_disconnect'
    })
  }
})

test('sees a WebSocket as 101, from the upgrade to its close', async (t) => {
  const app = Fastify()
  await app.register(websocket)
  const { next } = await watch(app)
  app.get('/ws', { websocket: true }, (socket) => {
    socket.on('message', (data) => socket.send(String(data)))
  })
  t.teardown(() => app.close())
  const client = new WebSocket((await app.listen({ port: 0, host: '127.0.0.1' })).replace('http', 'ws').concat('/ws'))
  await once(client, 'open')
  client.send('ping')
  await once(client, 'message')
  client.close()
  t.match(await next(), { route: '/ws', statusCode: 101, aborted: false, errorType: undefined })
})

test('sees requests over HTTP/2, finished and reset', async (t) => {
  // To the types an app over HTTP/2 is another thing.
  const app: FastifyInstance = Object(Fastify({ http2: true }))
  const { next } = await watch(app)
  const asked = new EventEmitter()
  app.get('/', async () => 'ok')
  app.get('/slow', async () => {
    asked.emit('request')
    await once(asked, 'reset')
    return 'late'
  })
  t.teardown(() => app.close())
  const session = connectHttp2(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => session.destroy())
  await text(session.request({ ':path': '/' }))
  t.match(await next(), {
    clientAddress: '127.0.0.1',
    route: '/',
    statusCode: 200,
    responseBytes: 2,
    aborted: false,
    errorType: undefined
  })
  const request = session.request({ ':path': '/slow' }).on('error', () => undefined)
  await once(asked, 'request')
  request.close(8)
  t.match(await next(), { route: '/slow', statusCode: 499, aborted: true, errorType: 'client_disconnect' })
  asked.emit('reset')
  session.request({ ':path': '/slow' }).on('error', () => undefined)
  await once(asked, 'request')
  session.destroy()
  t.match(await next(), { route: '/slow', statusCode: 499, aborted: true }, 'and when the whole session goes')
  asked.emit('reset')
})

test('serves a request over HTTP/2 whose trustProxy throws', async (t) => {
  const app: FastifyInstance = Object(Fastify({ http2: true, trustProxy: thrown }))
  const { next } = await watch(app)
  app.get('/', async () => 'ok')
  t.teardown(() => app.close())
  const session = connectHttp2(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => session.destroy())
  t.equal(await text(session.request({ ':path': '/', 'x-forwarded-for': '1.2.3.4' })), 'ok')
  t.match(await next(), { route: '/', statusCode: 200, clientAddress: '127.0.0.1' })
})

test('takes a method that HTTP does not define for _OTHER', async (t) => {
  const app: FastifyInstance = Object(Fastify({ http2: true }))
  await app.register(observation)
  const seen = new Promise((resolve) => {
    app.observation.observe({ name: 'test', end: ({ method }) => resolve(method) })
  })
  t.teardown(() => app.close())
  const session = connectHttp2(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => session.destroy())
  await text(session.request({ ':method': 'FLOOD1', ':path': '/' }))
  t.equal(await seen, '_OTHER')
})

test('counts a request that another plugin has rejected, before or after it', async (t) => {
  const reject = (app: FastifyInstance) =>
    app.addHook('onRequest', async (_request, reply) => reply.code(401).send('no'))
  for (const order of ['before', 'after']) {
    const app = Fastify()
    if (order === 'before') reject(app)
    const { next, rest } = await watch(app)
    if (order === 'after') reject(app)
    app.get('/orders/:id', async () => 'ok')
    await app.inject('/orders/1')
    t.match(await next(), { route: '/orders/:id', statusCode: 401, responseBytes: 2 }, order)
    t.same(rest, [])
  }
})

const fails = (): never => {
  throw new Error('unreadable')
}

test('makes no circle of causes', async (t) => {
  const app = Fastify()
  const { next } = await watch(app)
  const last = new Error('last')
  app.get('/', async ({ observation }) => {
    observation.fail(new Error('first', { cause: last }))
    throw last
  })
  t.equal((await app.inject('/')).statusCode, 500)
  t.equal((await next()).error, last)
  t.equal(last.cause, undefined)
})

test('leaves an error whose cause cannot be read as it is', async (t) => {
  const app = Fastify()
  const { next } = await watch(app)
  const hidden = Object.defineProperty(new Error('hidden'), 'cause', { get: fails })
  app.get('/', async ({ observation }) => {
    observation.fail(new Error('first'))
    throw hidden
  })
  t.equal((await app.inject('/')).statusCode, 500)
  t.equal((await next()).error, hidden)
})

test('counts no bytes of a 304, which has no body', async (t) => {
  const app = Fastify()
  const { next } = await watch(app)
  app.get('/', (_request, reply) => void reply.hijack().raw.writeHead(304).end('not sent'))
  await app.inject('/')
  t.match(await next(), { statusCode: 304, responseBytes: 0 })
})
