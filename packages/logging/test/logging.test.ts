import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { EventEmitter, once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import { stripVTControlCharacters } from 'node:util'
import { createRedactor, registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import { test } from 'tap'
import { canonicalFields, canonicalText } from '../src/canonical-line.ts'
import logging, { type LoggingOptions, logger } from '../src/index.ts'

type Line = Record<string, unknown>

/** An app that logs into an array; `completion` awaits the next canonical line. */
async function service(server: FastifyServerOptions = {}, options: LoggingOptions = {}) {
  const lines: Line[] = []
  const written = new EventEmitter()
  const stream = {
    write(line: string) {
      lines.push(JSON.parse(line))
      written.emit('line')
    }
  }
  const app = Fastify(server)
  app.register(logging, { service: { name: 'shop', version: '1.2.3', environment: 'test' }, stream, ...options })
  const completion = async (): Promise<Line> => {
    const index = lines.findIndex(({ msg }) => msg === 'request completed' || msg === 'request aborted')
    if (index !== -1) return lines.splice(index, 1)[0] ?? {}
    await once(written, 'line')
    return completion()
  }
  return { app, lines, completion }
}

function open(app: FastifyInstance, path: string): Socket {
  const { port, hostname } = new URL(app.listeningOrigin)
  const client = connect(Number(port), hostname)
  client.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`)
  return client
}

test('writes one canonical line a request', async (t) => {
  const { app, lines, completion } = await service()
  app.get('/orders/:id', async () => 'ok')
  await app.inject({ url: '/orders/7?token=secret', headers: { 'user-agent': 'curl' } })
  const { time, duration_ms, ttfb_ms, ...line } = await completion()
  t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.ok(Number(ttfb_ms) > 0 && Number(ttfb_ms) <= Number(duration_ms))
  t.same(line, {
    level: 'info',
    service: 'shop',
    version: '1.2.3',
    environment: 'test',
    request_id: 'req-1',
    method: 'GET',
    path: '/orders/7',
    route: '/orders/:id',
    status_code: 200,
    response_bytes: 2,
    client_ip: '127.0.0.1',
    user_agent: 'curl',
    aborted: false,
    msg: 'request completed'
  })
  t.same(lines, [], 'and nothing else')
})

test('writes the same canonical line through a logger of the handler’s own', async (t) => {
  const { app, completion } = await service()
  app.get('/plain', async () => 'ok')
  app.get('/own', async (request) => {
    request.log = request.log.child({ tenant: 'a' })
    return 'ok'
  })
  const headers = { 'user-agent': '"\\\u0007\u0085 é password=hunter2' }
  await app.inject({ url: '/plain?a', headers })
  const { duration_ms: _, ttfb_ms: __, time: ___, ...plain } = await completion()
  await app.inject({ url: '/own?a', headers })
  const { duration_ms: _d, ttfb_ms: _t, time: _time, ...own } = await completion()
  t.equal(plain.user_agent, '"\\\u0007\n é password=[redacted]')
  t.same(own, { ...plain, route: '/own', path: '/own', request_id: 'req-2', tenant: 'a' })
})

test('stays on one line for a path with line ends, which HTTP/2 lets through', async (t) => {
  const lines: string[] = []
  // To the types an app over HTTP/2 is another thing.
  const app: FastifyInstance = Object(Fastify({ http2: true }))
  await app.register(logging, { stream: { write: (line) => void lines.push(line) } })
  app.get('/*', async ({ log }) => log.info('here'))
  t.teardown(() => app.close())
  const session = connectHttp2(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => session.destroy())
  await text(session.request({ ':path': '/a\u0085{"level":"fatal"}' }))
  const written = lines.filter((line) => /"msg":"(here|request completed)"/.test(line))
  t.equal(written.length, 2)
  for (const line of written) {
    t.notMatch(line.trimEnd(), /[\u0085\u2028\u2029]/)
    t.equal(JSON.parse(line).path, '/a\n{"level":"fatal"}')
  }
})

test('writes times as JSON writes the same number, to the microsecond', async (t) => {
  const { app, completion } = await service()
  await app.after()
  const redactor = createRedactor()
  registryOf(app).observe({
    name: 'test',
    end(observation, outcome) {
      const text = canonicalText(redactor, { quote: (value) => JSON.stringify(value), added: () => '' })
      for (const durationMs of [0, 0.0004, 0.001, 0.0105, 0.5, 1.05, 1.1, 12, 999.9996, 1234.007, 60_000.125, 1e9]) {
        const ended = { ...outcome, durationMs, ttfbMs: durationMs / 2 }
        t.equal(`{${text?.(observation, ended).slice(1)}}`, JSON.stringify(canonicalFields(observation, ended)))
      }
    }
  })
  await app.inject('/')
  await completion()
})

test('distinguishes the user agents of many requests, and redacts one again that comes again', async (t) => {
  const { app, completion } = await service()
  const agents = Array.from({ length: 1_100 }, (_, index) => `agent/${index}`)
  for (const agent of ['a token=hunter2', ...agents, 'a token=hunter2', 'agent/7']) {
    await app.inject({ url: '/', headers: { 'user-agent': agent } })
    const { user_agent } = await completion()
    if (user_agent !== agent.replace('hunter2', '[redacted]')) t.fail(`${user_agent} for ${agent}`)
  }
  t.pass()
})

test('has of a path and of a user agent 1,024 characters in each line', async (t) => {
  const { app, lines, completion } = await service()
  app.get('/*', async (request) => {
    request.log.info({ req: request }, 'here')
    return 'ok'
  })
  await app.inject({ url: `/${'p'.repeat(10_000)}`, headers: { 'user-agent': 'u'.repeat(1_025) } })
  await app.inject({ url: `/${'p'.repeat(1_023)}`, headers: { 'user-agent': 'u'.repeat(1_024) } })
  const path = `/${'p'.repeat(1_023)}…[8977 more characters]`
  const { user_agent, ...completed } = await completion()
  t.match(completed, { path })
  t.equal(user_agent, `${'u'.repeat(1_024)}…[1 more characters]`)
  t.match(lines[0], { path, req: { path } })
  t.match(await completion(), { path: `/${'p'.repeat(1_023)}`, user_agent: 'u'.repeat(1_024) })
})

test('puts bindings set later into the canonical line', async (t) => {
  const { app, completion } = await service()
  app.get('/', async () => 'ok')
  await app.ready()
  logger().setBindings({ region: 'north' })
  await app.inject('/')
  t.match(await completion(), { region: 'north', status_code: 200 })
})

test('keeps a field of the canonical line secret when asked to', async (t) => {
  const { app, completion } = await service({}, { redact: ['client_ip'] })
  app.get('/', async () => 'ok')
  await app.inject('/')
  t.match(await completion(), { client_ip: '[redacted]', status_code: 200 })
})

test('keeps every field of the canonical line under an allow-list', async (t) => {
  const { app, completion } = await service({}, { allow: ['order_id'] })
  app.get('/', async () => 'ok')
  await app.inject({ url: '/', headers: { 'user-agent': 'curl' } })
  t.notMatch(Object.values(await completion()), ['[redacted]'])
})

test('reports the canonical line to subscribers of pino’s lines', async (t) => {
  const { app, completion } = await service()
  app.get('/', async () => 'ok')
  const heard: unknown[] = []
  const hear = (message: unknown): void => void heard.push(message)
  subscribe('tracing:pino_asJson:end', hear)
  t.teardown(() => unsubscribe('tracing:pino_asJson:end', hear))
  await app.inject('/')
  const line = await completion()
  t.match(heard, [{ result: new RegExp(String(line.request_id)) }])
})

const SERVERS: [string, () => FastifyServerOptions][] = [
  ['Fastify()', () => ({})],
  ['Fastify({ logger: true })', () => ({ logger: { level: 'info', stream: { write: (line) => foreign.push(line) } } })]
]
const foreign: string[] = []

test('replaces the request lines of Fastify, for routes declared before and after it has loaded, on', async (t) => {
  for (const [title, options] of SERVERS) {
    const { app, lines, completion } = await service(options())
    app.get('/early', async () => 'ok')
    app.get('/boom', async () => Promise.reject(new Error('boom')))
    await app.after()
    app.get('/late', async () => 'ok')
    for (const url of ['/early', '/late', '/boom', '/nowhere']) {
      await app.inject(url)
      t.match(await completion(), { path: url }, `${title} ${url}`)
      t.same([...lines, ...foreign], [], 'one line, and none of Fastify')
    }
  }
})

test('puts the context on every line the application writes while serving', async (t) => {
  const { app, lines } = await service()
  app.get('/', async (request) => {
    request.log.info({ step: 1 }, 'by request.log')
    await wait(1)
    app.log.info('by app.log')
    request.log.child({ part: 'a' }).info('by a child')
    return 'ok'
  })
  await app.inject('/')
  for (const msg of ['by request.log', 'by app.log', 'by a child']) {
    t.match(
      lines.find((line) => line.msg === msg),
      { request_id: 'req-1', method: 'GET', path: '/' },
      msg
    )
  }
})

test('keeps the context of request.log in listeners that run outside the request', async (t) => {
  const { app, lines, completion } = await service()
  const left = new EventEmitter()
  app.get('/', async (request, reply) => {
    request.raw.on('close', () => {
      request.log.info('the client has left')
      left.emit('close')
    })
    return reply.send(Readable.from(ticks()))
  })
  t.teardown(() => app.close())
  await app.listen({ port: 0 })
  const client = open(app, '/')
  await once(client, 'data')
  client.destroy()
  await once(left, 'close')
  t.match(
    lines.find(({ msg }) => msg === 'the client has left'),
    { request_id: 'req-1' }
  )
  t.match(await completion(), { aborted: true })
})

test('says the same of a request in its own line as in all others, whatever its ids are', async (t) => {
  const ids: unknown[] = ['plain', 'with "quotes"', 'a\u2028b\u0085\ud800', '', 17, null]
  let next = 0
  const { app, lines, completion } = await service({ genReqId: () => Object(ids)[next] })
  app.get('/*', async ({ log }) => log.info('here'))
  for (; next < ids.length; next++) {
    await app.inject(`/%22${next}?a=b`)
    const completed = await completion()
    const here = lines.findLast(({ msg }) => msg === 'here')
    for (const field of ['request_id', 'method', 'path']) t.same(completed[field], here?.[field], `${field} ${next}`)
    t.equal(completed.path, `/%22${next}`)
  }
})

async function* ticks(): AsyncGenerator<string> {
  for (;;) yield await wait(1, 'tick')
}

test('never mixes up 1,000 requests with awaits, timers and emitters inside', async (t) => {
  const { app, lines } = await service({ genReqId: ({ headers }) => String(headers['x-id']) })
  const bus = new EventEmitter()
  app.get('/', async ({ headers, log }) => {
    const id = headers['x-id']
    app.log.info({ id }, 'first')
    await wait(Math.random() * 20)
    log.info({ id }, 'after an await')
    await new Promise((resolve) => setTimeout(() => resolve(app.log.info({ id }, 'in a timer')), Math.random() * 5))
    bus.once(`event ${id}`, () => app.log.info({ id }, 'in an emitter'))
    bus.emit(`event ${id}`)
    return id
  })
  const ids = Array.from({ length: 1000 }, (_, index) => `id-${index}`)
  await Promise.all(ids.map((id) => app.inject({ url: '/', headers: { 'x-id': id } })))
  const own = lines.filter(({ id }) => id !== undefined)
  t.equal(own.length, 4000)
  t.same(
    own.filter(({ id, request_id }) => id !== request_id),
    []
  )
})

test('writes lines outside a request with the service only', async (t) => {
  const { app, lines } = await service()
  await app.ready()
  app.log.warn('on its own')
  t.match(lines, [{ level: 'warn', service: 'shop', msg: 'on its own' }])
  t.notMatch(lines[0], { request_id: String })
})

const LEVELS: [string, Line][] = [
  ['/ok', { level: 'info', status_code: 200 }],
  ['/moved', { level: 'info', status_code: 302 }],
  ['/nowhere', { level: 'warn', status_code: 404, route: 'unmatched' }],
  ['/500', { level: 'error', status_code: 500, err: undefined }],
  [
    '/boom',
    { level: 'error', status_code: 500, err: { type: 'TypeError', message: 'boom', cause: { message: 'why' } } }
  ]
]

test('takes the level from the final status, and the error with its causes', async (t) => {
  const { app, completion } = await service()
  app.get('/ok', async () => 'ok')
  app.get('/moved', async (_request, reply) => reply.redirect('/ok'))
  app.get('/500', async (_request, reply) => reply.code(500).send())
  app.get('/boom', async () => Promise.reject(new TypeError('boom', { cause: new Error('why') })))
  for (const [url, expected] of LEVELS) {
    await app.inject(url)
    t.match(await completion(), expected, url)
  }
})

test('gives an aborted request one line at warn with the time it took', async (t) => {
  const { app, lines, completion } = await service()
  const asked = new EventEmitter()
  app.get('/slow', async (request, reply) => {
    asked.emit('request')
    await once(request.raw.socket, 'close')
    return reply.send('late')
  })
  t.teardown(() => app.close())
  await app.listen({ port: 0 })
  const startedAt = performance.now()
  const client = open(app, '/slow')
  await once(asked, 'request')
  await wait(30)
  client.destroy()
  const line = await completion()
  t.match(line, { msg: 'request aborted', level: 'warn', aborted: true, status_code: 499, route: '/slow' })
  const [ms, elapsedMs] = [Number(line.duration_ms), performance.now() - startedAt]
  t.ok(ms >= 29 && ms <= elapsedMs, `${ms} of ${elapsedMs} ms`)
  await app.close()
  t.same(
    lines.filter(({ route }) => route),
    [],
    'and no second one'
  )
})

test('gives a stream one line, when it has been sent', async (t) => {
  const { app, lines, completion } = await service()
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(threeTicks())))
  t.teardown(() => app.close())
  const origin = await app.listen({ port: 0 })
  t.equal(await (await fetch(`${origin}/stream`)).text(), 'tickticktick')
  const line = await completion()
  t.match(line, { msg: 'request completed', level: 'info', aborted: false, status_code: 200 })
  t.ok(Number(line.duration_ms) >= 29, `${line.duration_ms} ms`)
  t.same(
    lines.filter(({ route }) => route),
    [],
    'and no second one'
  )
})

async function* threeTicks(): AsyncGenerator<string> {
  for (const _ of [1, 2, 3]) yield await wait(10, 'tick')
}

test('names the Sentry event of a failure on its line', async (t) => {
  const { app, completion } = await service()
  app.get('/', async (_request, reply) => reply.code(500).send())
  await app.ready()
  registryOf(app).observe({
    name: 'test',
    end(observation) {
      observation.sentryEventId = 'e1'
    }
  })
  await app.inject('/')
  t.match(await completion(), { status_code: 500, sentry_event_id: 'e1' })
})

test('reports each line of a request, as it is written, to the slot for lines', async (t) => {
  const { app } = await service()
  const heard: unknown[] = []
  app.get('/', async ({ log }) => {
    log.info({ order: 7 }, 'password=%s', 'planted')
    log.debug('not written')
    logger().warn(new Error('late'))
    app.log.info('of the request too')
  })
  await app.ready()
  registryOf(app).observe({
    name: 'test',
    start(observation) {
      observation.onLine = (level, message) => void heard.push([level, message])
    }
  })
  await app.inject('/')
  app.log.info('of no request')
  t.same(heard.slice(0, 3), [
    ['info', 'password=[redacted]'],
    ['warn', 'late'],
    ['info', 'of the request too']
  ])
  t.same(heard.slice(3), [['info', 'request completed']])
})

test('shares its rules about secrets with the other parts', async (t) => {
  const { app } = await service({}, { redact: ['iban'] })
  await app.ready()
  t.equal(registryOf(app).redactor.text('iban=DE02'), 'iban=[redacted]')
})

test("does not let a user's field pass for the request's", async (t) => {
  const { app, lines } = await service()
  app.get('/', async (request) => request.log.info({ request_id: 'forged', path: '/forged' }, 'mine'))
  await app.inject('/')
  t.match(lines[0], { msg: 'mine', request_id: 'req-1', path: '/' })
})

test('honours the level and the observability config of a route', async (t) => {
  const { app, lines } = await service()
  app.get('/quiet', { config: { observability: { log: false } } }, async () => 'ok')
  app.get('/probe', { config: { observability: { log: 'failures' } } }, async (_request, reply) =>
    reply.code(503).send()
  )
  app.get('/debug', { logLevel: 'debug' }, async (request) => request.log.debug('fine'))
  for (const url of ['/quiet', '/probe', '/debug']) await app.inject(url)
  t.match(lines, [{ path: '/probe', status_code: 503 }, { level: 'debug', msg: 'fine' }, { path: '/debug' }])
  t.equal(lines.length, 3)
})

for (const logger of [false, true]) {
  test(`honours the serializers of a route and of a prefix where Fastify has ${logger ? 'a' : 'no'} logger`, async (t) => {
    const { app, lines } = await service({ logger: logger && { level: 'silent' } }, { level: 'info' })
    const shout = { user: (name: string) => name.toUpperCase() }
    const greet = (request: FastifyRequest): void => request.log.info({ user: 'ada' }, 'hello')
    app.after(() => {
      app.get('/plain', async (request) => greet(request))
      app.get('/route', { logSerializers: shout }, async (request) => greet(request))
    })
    app.register(async (child) => void child.get('/prefix', async (request) => greet(request)), {
      logSerializers: shout
    })
    for (const url of ['/plain', '/route', '/prefix']) await app.inject(url)
    const greetings = lines.filter(({ msg }) => msg === 'hello')
    t.match(greetings, [
      { user: 'ada', path: '/plain' },
      { user: 'ADA', path: '/route' },
      { user: 'ADA', path: '/prefix' }
    ])
    t.equal(greetings.length, 3)
  })
}

test('logs a whole request passed by a user without its headers and query', async (t) => {
  const { app, lines } = await service()
  app.get('/', async (request, reply) => request.log.info({ req: request, res: reply }, 'mine'))
  await app.inject({ url: '/?token=secret', headers: { authorization: 'secret' } })
  t.match(lines[0], { req: { method: 'GET', path: '/' }, res: { status_code: 200 } })
  t.notMatch(JSON.stringify(lines), 'secret')
})

test('takes the level from the option, then LOG_LEVEL, then the logger it replaces', async (t) => {
  const levelOf = async (options?: LoggingOptions): Promise<string> => {
    const { app } = await service({ logger: { level: 'error' } }, options)
    await app.ready()
    return app.log.level
  }
  t.equal(await levelOf(), 'error')
  process.env.LOG_LEVEL = 'warn'
  t.teardown(() => delete process.env.LOG_LEVEL)
  t.equal(await levelOf(), 'warn')
  t.equal(await levelOf({ level: 'debug' }), 'debug')
})

test('takes LOG_LEVEL in any case, and "warning" for "warn"', async (t) => {
  t.teardown(() => delete process.env.LOG_LEVEL)
  const spellings = { WARN: 'warn', Warning: 'warn', warning: 'warn', INFO: 'info', Silent: 'silent' }
  for (const [spelling, level] of Object.entries(spellings)) {
    process.env.LOG_LEVEL = spelling
    const { app } = await service()
    await app.ready()
    t.equal(app.log.level, level, spelling)
  }
})

test('writes for people with format "pino-pretty"', async (t) => {
  const written: string[] = []
  const app = Fastify()
  await app.register(logging, { format: 'pino-pretty', stream: { write: (text) => written.push(text) } })
  app.log.warn({ order: 7 }, 'look here')
  t.match(stripVTControlCharacters(written.join('')), /^\[\d\d:\d\d:\d\d\.\d{3}\] WARN: look here\n {4}order: 7\n$/)
})

test('refuses an invalid level or format, from an option or the environment', async (t) => {
  const name = '@fastify-observability/logging'
  await t.rejects(
    async () => Fastify().register(logging, Object({ format: 'xml' })),
    new TypeError(`${name}: option "format" must be one of json, pretty, pino-pretty, got 'xml'`)
  )
})

test('ignores a variable that holds no level or format, with a warning', async (t) => {
  Object.assign(process.env, { LOG_LEVEL: 'loud', LOG_FORMAT: 'text' })
  t.teardown(() => delete process.env.LOG_LEVEL && delete process.env.LOG_FORMAT)
  const lines: string[] = []
  await Fastify().register(logging, { stream: { write: (line) => void lines.push(line) } })
  await Promise.resolve()
  const name = '@fastify-observability/logging'
  const levels = 'fatal, error, warn, info, debug, trace, silent'
  t.match(
    lines.map((line) => JSON.parse(line)),
    [
      { level: 'warn', msg: `${name}: LOG_LEVEL must be one of ${levels}, 'loud' is ignored` },
      { level: 'warn', msg: `${name}: LOG_FORMAT must be one of json, pretty, pino-pretty, 'text' is ignored` }
    ]
  )
})
