import { registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance, type FastifyServerOptions, LogController, type RouteOptions } from 'fastify'
import { test } from 'tap'
import logging, { logger } from '../src/index.ts'

type Line = Record<string, unknown>
type Factory = NonNullable<RouteOptions['childLoggerFactory']>

function array() {
  const lines: Line[] = []
  return { lines, stream: { write: (line: string) => void lines.push(JSON.parse(line)) } }
}

/** An app whose logger writes into an array, with the plugin. */
async function service(server: FastifyServerOptions = {}, before: (app: FastifyInstance) => void = () => undefined) {
  const { lines, stream } = array()
  const app = Fastify({ logger: { stream }, ...server })
  before(app)
  await app.register(logging, { stream })
  return { app, lines }
}

const acme: Factory = (log, bindings, options) => log.child({ ...bindings, tenant: 'acme' }, options)

const PLACES: [place: string, FastifyServerOptions, before: (app: FastifyInstance) => void, own?: Factory][] = [
  ['of the server', { childLoggerFactory: acme }, () => undefined],
  ['set before', {}, (app) => void app.setChildLoggerFactory(acme)],
  ['set after', {}, (app) => void app.after(() => void app.setChildLoggerFactory(acme))],
  ['of a route', {}, () => undefined, acme]
]

for (const hasLogger of [true, false]) {
  test(`keeps a childLoggerFactory where Fastify has ${hasLogger ? 'a' : 'no'} logger`, async (t) => {
    for (const [place, options, before, childLoggerFactory] of PLACES) {
      const { app, lines } = await service({ ...options, ...(!hasLogger && { logger: false }) }, before)
      app.get('/', { ...(childLoggerFactory && { childLoggerFactory }) }, async ({ log }) => {
        log.info('by request.log')
        logger().info('by logger()')
      })
      await app.inject('/')
      const own = lines.filter((line) => line.tenant === 'acme' && line.request_id === 'req-1')
      t.same(
        own.map(({ msg }) => msg),
        ['by request.log', 'by logger()', 'request completed'],
        place
      )
    }
  })
}

test('keeps the factory of a scope, and that of routes declared before the plugin', async (t) => {
  const { app, lines } = await service({ childLoggerFactory: acme }, (app) => {
    app.get('/early', async ({ log }) => log.info('here'))
  })
  app.register(async (scope) => {
    scope.setChildLoggerFactory((log, bindings, options) => log.child({ ...bindings, area: 'admin' }, options))
    scope.get('/admin', { logLevel: 'warn' }, async ({ log }) => log.warn('here'))
  })
  for (const url of ['/early', '/admin']) await app.inject(url)
  const [early, admin] = lines.filter(({ msg }) => msg === 'here')
  t.match(early, { tenant: 'acme', path: '/early', request_id: 'req-1' })
  t.match(admin, { area: 'admin', path: '/admin', request_id: 'req-2' })
  t.equal(lines.filter(({ msg, path }) => msg === 'request completed' && path === '/admin').length, 0)
})

for (const hasLogger of [true, false]) {
  test(`keeps what a factory gives to loggers of earlier routes, Fastify with ${hasLogger ? 'a' : 'no'} logger`, async (t) => {
    const { app, lines } = await service({ ...(!hasLogger && { logger: false }) }, (app) => {
      app.setChildLoggerFactory((log, bindings, options) =>
        Object.assign(log.child(bindings, options), { audit: (text: string) => logger().info({ audited: text }) })
      )
      app.get('/early', async ({ log }) => void Reflect.get(log, 'audit')('paid'))
    })
    t.equal((await app.inject('/early')).statusCode, 200)
    t.match(
      lines.find(({ audited }) => audited === 'paid'),
      { path: '/early', request_id: 'req-1' }
    )
  })
}

test("gives the factory of an earlier route the suite's logger, for methods of its own", async (t) => {
  const { app, lines } = await service({}, (app) => {
    app.get('/early', {
      handler: async ({ log }) => void Reflect.get(log, 'audit')('paid'),
      childLoggerFactory(log, bindings, options) {
        const audited = Object.create(log.child({ ...bindings, plan: 'pro' }, options))
        return Object.assign(audited, { audit: (text: string) => audited.info({ audited: text, password: 'secret' }) })
      }
    })
  })
  for (const id of ['req-1', 'req-2']) {
    t.equal((await app.inject('/early')).statusCode, 200)
    t.match(lines.at(-2), { audited: 'paid', path: '/early', plan: 'pro', request_id: id, password: '[redacted]' })
    t.match(lines.at(-1), { msg: 'request completed', plan: 'pro', request_id: id })
  }
})

test('calls the factory of an earlier route once for a request', async (t) => {
  let calls = 0
  const { app, lines } = await service({}, (app) => {
    app.setChildLoggerFactory((log, bindings, options) => log.child({ ...bindings, call: ++calls }, options))
    app.get('/early', async ({ log }) => log.info('here'))
  })
  await app.inject('/early')
  t.match(lines, [
    { call: 1, msg: 'here', request_id: 'req-1' },
    { call: 1, msg: 'request completed' }
  ])
  t.equal(calls, 1)
})

test('keeps the factory and the serializers that an earlier route has of its own', async (t) => {
  const { app, lines } = await service({}, (app) => {
    app.get('/factory', { childLoggerFactory: acme }, async ({ log }) => log.info('here'))
    const logSerializers = { order: (order: { id: number }) => order.id }
    app.get('/serializers', { logSerializers }, async ({ log }) => log.info({ order: { id: 7, card: '4' } }, 'here'))
  })
  for (const url of ['/factory', '/serializers']) await app.inject(url)
  const [first, second] = lines.filter(({ msg }) => msg === 'here')
  t.match(first, { tenant: 'acme', path: '/factory', request_id: 'req-1' })
  t.match(second, { order: 7, path: '/serializers', request_id: 'req-2' })
})

test('gives a factory that returns the log of its server that log, with all that it has', async (t) => {
  const { app, lines } = await service({}, (app) => {
    app.setChildLoggerFactory(function () {
      return Object.assign(this.log, { audit: (text: string) => logger().info({ audited: text }) })
    })
    app.get('/early', async ({ log }) => void Reflect.get(log, 'audit')('early'))
  })
  app.get('/late', async ({ log }) => void Reflect.get(log, 'audit')('late'))
  for (const url of ['/early', '/late']) t.equal((await app.inject(url)).statusCode, 200)
  const audited = lines.filter(({ audited }) => audited).map(({ audited, request_id }) => [audited, request_id])
  t.same(audited, [
    ['early', 'req-1'],
    ['late', 'req-2']
  ])
})

test('keeps a requestIdLogLabel of the application', async (t) => {
  const { app, lines } = await service({ logController: new LogController({ requestIdLogLabel: 'rid' }) }, (app) => {
    app.get('/early', async ({ log }) => log.info('here'))
  })
  app.get('/late', { logLevel: 'debug' }, async ({ log }) => log.debug('here'))
  for (const url of ['/early', '/late']) await app.inject(url)
  const ids = lines.map(({ path, rid, request_id }) => [path, rid, request_id])
  t.same(
    ids,
    [1, 1, 2, 2].map((id) => [id === 1 ? '/early' : '/late', `req-${id}`, `req-${id}`])
  )
})

test('takes a logger of its own where a factory gives one that is no pino', async (t) => {
  const plain = Fastify().log
  const { app, lines } = await service()
  app.get('/', { childLoggerFactory: () => plain }, async ({ log }) => log.info('here'))
  t.equal((await app.inject('/')).statusCode, 200)
  t.match(lines, [{ msg: 'here', path: '/' }, { msg: 'request completed' }])
})

const SWITCHES: [title: string, LogController, silenced: string[]][] = [
  ['disableRequestLogging', new LogController({ disableRequestLogging: true }), ['/health', '/orders', '/nowhere']],
  ['a function', new LogController({ disableRequestLogging: ({ url }) => url.startsWith('/health') }), ['/health']],
  ['a function that throws', new LogController({ disableRequestLogging: () => JSON.parse('{') }), []],
  [
    'a controller',
    Object.assign(new LogController(), { isLogDisabled: () => true }),
    ['/health', '/orders', '/nowhere']
  ]
]

test('writes no canonical line of requests that Fastify was told not to log, by', async (t) => {
  for (const [title, logController, silenced] of SWITCHES) {
    const { app, lines } = await service({ logController })
    for (const url of ['/health', '/orders']) app.get(url, async ({ log }) => log.info('here'))
    const urls = ['/health', '/orders', '/nowhere']
    for (const url of urls) await app.inject(url).catch(() => undefined)
    const completed = lines.filter(({ msg }) => msg === 'request completed').map(({ path }) => path)
    if (silenced.length > 0)
      t.same(
        completed,
        urls.filter((url) => !silenced.includes(url)),
        title
      )
    t.ok(silenced.length > 0 || completed.length > 0, title)
  }
})

test('keeps the lines of a LogController of the application, and no others of Fastify', async (t) => {
  class Own extends LogController {
    override incomingRequest({ log, url }: Parameters<LogController['incomingRequest']>[0]): void {
      log.info(`asked for ${url}`)
    }
  }
  const { app, lines } = await service({ logController: new Own() })
  app.get('/', async () => 'ok')
  await app.inject('/')
  t.match(lines, [
    { msg: 'asked for /', request_id: 'req-1' },
    { msg: 'request completed', route: '/' }
  ])
  t.equal(lines.length, 2)
})

test('names a logger that it cannot keep in one warning', async (t) => {
  const { lines, stream } = array()
  const written: unknown[] = []
  const write = (...args: unknown[]): void => void written.push(args)
  const methods = { info: write, error: write, debug: write, fatal: write, warn: write, trace: write }
  const own = { ...methods, level: 'info', child: () => ({ ...own }) }
  const app = Fastify({ loggerInstance: Object(own) })
  await app.register(logging, { stream })
  app.log.info('here')
  t.match(lines, [{ level: 'warn', msg: /the logger given to Fastify is not a pino logger/ }, { msg: 'here' }])
  t.same([lines.length, written.length, [...(registryOf(app).published[0]?.collect() ?? [])].length], [2, 0, 0])
})
