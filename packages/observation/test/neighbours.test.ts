import { EventEmitter, once } from 'node:events'
import { createServer, IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import express from '@fastify/express'
import middie from '@fastify/middie'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { type Test, test } from 'tap'
import observation, { currentObservation, type Outcome } from '../src/index.ts'
import { registryOf } from '../src/internal.ts'

type Seen = Outcome & { clientAddress: string | undefined }

/** An app that listens, and the ends of its requests as they come. */
async function service(t: Test, declare: (app: FastifyInstance) => unknown, options: FastifyServerOptions = {}) {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line) => void lines.push(line) } }, ...options })
  const ends = new EventEmitter()
  await app.register(observation)
  app.observation.observe({
    name: 'test',
    end: ({ clientAddress }, outcome) => void ends.emit('end', { ...outcome, clientAddress })
  })
  await declare(app)
  t.teardown(() => app.close())
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  async function ask(path: string, init: RequestInit = {}): Promise<Seen> {
    const [[seen]] = await Promise.all([once(ends, 'end'), fetch(origin + path, init).then((answer) => answer.text())])
    return seen
  }
  return { app, ask, lines }
}

test('knows status and error of what it serves beside @fastify/express', async (t) => {
  const { ask } = await service(t, async (app) => {
    await app.register(express)
    app.use('/plain', (_request: unknown, response: { end(text: string): void }) => response.end('from express'))
    app.get('/ok', async () => 'fine')
    app.get('/boom', async () => Promise.reject(new Error('boom')))
  })
  const answered = { headersSent: true, aborted: false }
  t.match(await ask('/ok'), { ...answered, statusCode: 200, error: undefined })
  t.match(await ask('/boom'), { ...answered, statusCode: 500, error: { message: 'boom' }, errorType: 'Error' })
  t.match(await ask('/plain'), { ...answered, statusCode: 200, ttfbMs: Number })
})

for (const [name, plugin] of [
  ['express', express],
  ['middie', middie]
] as const) {
  test(`knows status, error and size of what middleware of @fastify/${name} answers or fails with`, async (t) => {
    const { ask } = await service(t, async (app) => {
      await app.register(plugin)
      app.use('/failing', (_request: unknown, _response: unknown, next: (error: Error) => void) =>
        next(new RangeError('of middleware'))
      )
      app.use(
        '/streaming',
        (_request: unknown, response: ServerResponse) => void Readable.from(['ab', 'cd']).pipe(response)
      )
      app.use('/answering', (_request: unknown, response: ServerResponse) => response.writeHead(503).end('busy'))
    })
    t.match(await ask('/failing'), { statusCode: 500, error: { message: 'of middleware' }, errorType: 'RangeError' })
    t.match(await ask('/streaming'), { statusCode: 200, aborted: false, responseBytes: 4, errorType: undefined })
    t.match(await ask('/answering'), { statusCode: 503, error: undefined, errorType: '503' })
  })
}

test('keeps the whole path of a request whose URL middleware cuts before it answers', async (t) => {
  const { app, ask } = await service(t, async (app) => {
    await app.register(middie)
    app.use('/legacy', (_request: unknown, response: { end(text: string): void }) => response.end('from middleware'))
    app.use('/through', (_request: unknown, _response: unknown, next: () => void) => next())
    app.get('/through/:id', async () => 'from the route')
  })
  const paths: string[] = []
  app.observation.observe({ name: 'paths', end: ({ path, route }) => void paths.push(`${path} ${route}`) })
  for (const path of ['/legacy/orders?id=7', '/legacy', '/through/7']) await ask(path)
  t.same(paths, ['/legacy/orders unmatched', '/legacy unmatched', '/through/7 /through/:id'])
})

test('has the path that rewriteUrl has made', async (t) => {
  const { app, ask } = await service(t, (app) => app.get('/v2/:id', async () => 'ok'), {
    rewriteUrl: ({ url = '' }) => url.replace('/v1/', '/v2/')
  })
  const paths: string[] = []
  app.observation.observe({ name: 'paths', end: ({ path, route }) => void paths.push(`${path} ${route}`) })
  await ask('/v1/7')
  t.same(paths, ['/v2/7 /v2/:id'])
})

test('has @fastify/under-pressure of the application spare routes with `shed: false`', async (t) => {
  const { app, ask } = await service(t, async (app) => {
    await app.register(underPressure, { maxRssBytes: 1, sampleInterval: 10 })
    app.get('/orders', async () => 'ok')
    app.get('/health', { config: { observability: { shed: false } } }, async () => 'healthy')
    const pressureHandler = (): never => {
      throw Object.assign(new Error('of the route'), { statusCode: 429 })
    }
    const config = { observability: { shed: false }, pressureHandler }
    app.get('/own', { config }, async () => 'ok')
  })
  while (!app.isUnderPressure()) await wait(10)
  t.match(await ask('/orders'), { statusCode: 503, errorType: 'FST_UNDER_PRESSURE' })
  t.match(await ask('/health'), { statusCode: 200 })
  t.match(await ask('/own'), { statusCode: 429 })
})

test('has the address of the socket where trustProxy throws', async (t) => {
  const trustProxy = (address: string): boolean => {
    if (address.includes(' ')) throw new Error('not an address')
    return address.startsWith('127.')
  }
  const { ask } = await service(t, (app) => app.get('/', async () => 'ok'), { trustProxy, logger: false })
  const addressFor = async (forwarded: string) =>
    (await ask('/', { headers: { 'x-forwarded-for': forwarded } })).clientAddress
  t.equal(await addressFor('203.0.113.5'), '203.0.113.5')
  t.equal(await addressFor('10.0.0.2, y x, 127.0.0.1'), '127.0.0.1')
  t.equal(await addressFor('10.0.0.1, y x'), '127.0.0.1')
})

test('has the address that Fastify has, whatever trustProxy is', async (t) => {
  const trusts: FastifyServerOptions['trustProxy'][] = [
    true,
    false,
    1,
    '127.0.0.1',
    Object(async () => true),
    Object(() => ({}))
  ]
  for (const trustProxy of trusts) {
    const ips: string[] = []
    const { ask } = await service(t, (app) => app.get('/', async ({ ip }) => ips.push(ip)), {
      trustProxy,
      logger: false
    })
    const { clientAddress } = await ask('/', { headers: { 'x-forwarded-for': '203.0.113.5' } })
    t.same(ips, [clientAddress])
  }
})

test('takes what an error handler throws for the error, with the first as its cause', async (t) => {
  const first = Object.assign(new Error('not found'), { statusCode: 404 })
  const { ask } = await service(t, (app) => {
    app.setErrorHandler((error) => {
      if (error === first) throw new TypeError('no details')
      if (error instanceof RangeError) return Promise.reject(Object.freeze(new SyntaxError('frozen')))
      throw error
    })
    app.get('/first', async () => Promise.reject(first))
    app.get('/frozen', async () => Promise.reject(new RangeError('range')))
    app.get('/same', async () => Promise.reject(new Error('thrown again')))
  })
  t.match(await ask('/first'), {
    statusCode: 500,
    errorType: 'TypeError',
    error: { message: 'no details', cause: first }
  })
  t.match(await ask('/frozen'), { statusCode: 500, errorType: 'SyntaxError', error: { cause: undefined } })
  t.match(await ask('/same'), { statusCode: 500, error: { message: 'thrown again', cause: undefined } })
})

test('has the last error of several, and the first as its cause, whichever hook or handler throws', async (t) => {
  const rejects = async (error: unknown): Promise<never> => Promise.reject(error)
  const { ask } = await service(t, (app) => {
    app.setErrorHandler(async () => rejects(new TypeError('of the outer handler')))
    app.register(async (scope) => {
      scope.setErrorHandler(async () => rejects(new RangeError('of the inner handler')))
      scope.get('/nested', () => rejects(new Error('first')))
      scope.get('/null', { errorHandler: async () => rejects(null) }, () => rejects(new Error('first')))
    })
    app.get(
      '/sent',
      { errorHandler: (_, __, reply) => void reply.send('handled'), onSend: () => rejects(new TypeError('of onSend')) },
      () => rejects(new Error('first'))
    )
    app.get('/text', { errorHandler: () => rejects('text') }, () => rejects(new Error('first')))
  })
  const cause = { message: 'first' }
  t.match(await ask('/nested'), { statusCode: 500, error: { message: 'of the outer handler', cause } })
  t.match(await ask('/null'), { statusCode: 500, error: { message: 'of the outer handler', cause } })
  t.match(await ask('/sent'), { error: { message: 'of onSend', cause: { message: 'of the outer handler', cause } } })
  t.match(await ask('/text'), { statusCode: 500, error: { message: 'of the outer handler', cause } })
})

test('calls what an agent has wrapped on a request or a response, before it and after', async (t) => {
  const called: string[] = []
  const wrap = (target: object, name: string): unknown => {
    const method = Reflect.get(target, name)
    return Reflect.set(target, name, function (this: unknown, ...args: unknown[]) {
      called.push(name)
      return Reflect.apply(method, this, args)
    })
  }
  const { app, ask } = await service(t, (app) => {
    app.addHook('onRequest', async (_request, { raw }) => void wrap(raw, 'end'))
    app.post('/', async (_request, reply) => reply.send(Readable.from(['ab', 'cd'])))
  })
  app.server.prependListener('request', (raw, response) => {
    wrap(raw, 'push')
    for (const name of ['writeHead', 'write', 'end']) wrap(response, name)
  })
  t.match(await ask('/', { method: 'POST', body: 'five!' }), { statusCode: 200, requestBytes: 5, responseBytes: 4 })
  t.same(new Set(called), new Set(['push', 'writeHead', 'write', 'end']))
  t.equal(called.filter((name) => name === 'end').length, 2)
})

test('answers where two apps share a server', async (t) => {
  const shared = createServer()
  const { app, ask } = await service(t, (app) => app.post('/', async () => 'served'), {
    serverFactory: (handler) => shared.on('request', handler)
  })
  const second = Fastify({ serverFactory: () => shared })
  await second.register(observation)
  await second.ready()
  t.match(await ask('/', { method: 'POST', body: 'five!' }), { statusCode: 200, requestBytes: 5, responseBytes: 6 })
  t.equal(app.server, second.server)
})

test('serves requests of an adapter’s own making, with no socket or one that is an object', async (t) => {
  const { app } = await service(t, (app) => app.get('/', async () => 'served'))
  for (const socket of [undefined, {}, { remoteAddress: '203.0.113.5' }]) {
    for (const serve of [app.routing, (...args: unknown[]) => app.server.emit('request', ...args)]) {
      const head = { method: 'GET', url: '/', headers: {}, httpVersion: '1.1', httpVersionMajor: 1, socket }
      const raw = Object.assign(Readable.from([]), head)
      const response = new ServerResponse(new IncomingMessage(new Socket()))
      const answered = once(response, 'answered')
      Object.assign(response, { end: (body: string) => response.emit('answered', body) })
      serve(Object(raw), response)
      t.same(await answered, ['served'])
    }
  }
})

test('logs the error of an onResponse hook once, also where a part writes its own lines', async (t) => {
  for (const muted of [false, true]) {
    const { app, ask, lines } = await service(t, (app) => {
      if (muted) registryOf(app).muteFastify()
      app.addHook('onResponse', async () => Promise.reject(new Error('the audit record was not written')))
      app.get('/', async () => 'ok')
    })
    t.match(await ask('/'), { statusCode: 200, error: undefined })
    await app.close()
    t.equal(lines.filter((line) => line.includes('"level":50') && line.includes('the audit record')).length, 1)
  }
})

test('serves injectWS, whose requests have no socket', async (t) => {
  const { app } = await service(t, async (app) => {
    await app.register(websocket)
    app.register(async (scope: FastifyInstance) => {
      scope.get('/ws', { websocket: true }, (socket, request) => {
        request.observation.fail(new Error('of no request'))
        socket.on('message', (message) => socket.send(`echo ${message}`))
      })
    })
  })
  const socket = await app.injectWS('/ws')
  const answer = once(socket, 'message')
  socket.send('hi')
  t.equal(String((await answer)[0]), 'echo hi')
  socket.terminate()
})

test('makes an error that the application reports the error of the request', async (t) => {
  const { ask } = await service(t, (app) => {
    app.get('/answered', async (request, reply) => {
      request.observation.fail(new RangeError('of a filter'))
      return reply.code(500).send('sorry')
    })
    app.get('/below', async (_request, reply) => {
      currentObservation()?.fail(new TypeError('of a resolver'))
      return reply.send({ errors: [] })
    })
    app.get('/known', async (request, reply) => {
      request.observation.fail(new Error('known'))
      return reply.code(404).send()
    })
    app.get('/thrown', async (request) => {
      request.observation.fail(new Error('the first'))
      throw new Error('the second')
    })
  })
  t.match(await ask('/answered'), { statusCode: 500, errorType: 'RangeError', error: { message: 'of a filter' } })
  t.match(await ask('/below'), { statusCode: 200, errorType: 'TypeError', error: { message: 'of a resolver' } })
  t.match(await ask('/known'), { statusCode: 404, errorType: undefined, error: { message: 'known' } })
  t.match(await ask('/thrown'), { statusCode: 500, error: { message: 'the second', cause: { message: 'the first' } } })
})
