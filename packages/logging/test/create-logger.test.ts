import { once } from 'node:events'
import { mkdtemp, readFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { docsOf, registryOf } from '@fastify-observability/observation/internal'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyBaseLogger } from 'fastify'
import { test } from 'tap'
import logging, { createLogger, type LoggingOptions, logger } from '../src/index.ts'

type Line = Record<string, unknown>

function array() {
  const lines: Line[] = []
  return { lines, stream: { write: (line: string) => void lines.push(JSON.parse(line)) } }
}

const service = { name: 'shop', version: '1.2.3', environment: 'test' }

test('createLogger gives the lines that the plugin alone gives, from the first one on', async (t) => {
  const given = array()
  const alone = array()
  // As wide as Fastify's own type, or the two apps are of two types.
  const loggerInstance: FastifyBaseLogger = createLogger({ service, stream: given.stream })
  const withGiven = Fastify({ loggerInstance })
  await withGiven.register(logging)
  const withPlugin = Fastify()
  await withPlugin.register(logging, { service, stream: alone.stream })
  for (const app of [withGiven, withPlugin]) {
    app.get('/', async (request) => {
      request.log.info('by request.log')
      app.log.info('by app.log')
      logger().info('by logger()')
    })
    await app.inject('/')
  }
  const steady = ({ time, duration_ms, ttfb_ms, ...line }: Line): Line => line
  t.equal(given.lines.length, 4)
  t.same(given.lines.map(steady), alone.lines.map(steady))
  for (const line of given.lines) t.match(line, { service: 'shop', request_id: 'req-1', method: 'GET', path: '/' })
})

test('refuses options beside a logger that has its own', async (t) => {
  const loggerInstance: FastifyBaseLogger = createLogger({ stream: array().stream })
  const register = async (options: LoggingOptions) => Fastify({ loggerInstance }).register(logging, options)
  const sentence = /the app's logger is from createLogger, which is where "redact" must be given$/
  await t.rejects(register({ redact: ['iban'] }), { message: sentence })
  await t.rejects(register(Object({ nonsense: 1 })), /unknown option "nonsense"/)
  await register({ service })
})

test('writes where an error of the suite is explained, and no other address', async (t) => {
  const { lines, stream } = array()
  const log = createLogger({ stream })
  const docs = docsOf('wrong-options')
  log.error(t.throws(() => createLogger(Object({ level: 'loud' }))))
  log.error(Object.assign(new Error('other'), { docs: 'https://example.org' }))
  t.match(lines, [{ err: { type: 'TypeError', docs } }, { err: { message: 'other', docs: undefined } }])
})

test('logger() is the latest logger that is still open', async (t) => {
  const { lines, stream } = array()
  const open = Fastify()
  await open.register(logging, { stream })
  const closed = Fastify()
  await closed.register(logging, { stream: array().stream })
  await closed.close()
  logger().info('still here')
  t.match(lines, [{ msg: 'still here' }])
})

test('logger() outside a request is the latest logger, without a request', async (t) => {
  const { lines, stream } = array()
  createLogger({ service, stream })
  logger().warn('alone')
  t.match(lines, [{ level: 'warn', service: 'shop', msg: 'alone' }])
  t.notMatch(lines, [{ request_id: String }])
})

test('changes its level at run time, for new lines of running requests too', async (t) => {
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, { service, stream })
  app.get('/', async (request) => {
    request.log.debug('hidden')
    app.logging.level = 'debug'
    request.log.debug('shown')
    return app.logging.level
  })
  t.equal((await app.inject('/')).body, 'debug')
  t.match(lines, [{ msg: 'shown' }, { msg: 'request completed' }])
  t.throws(() => Object.assign(app.logging, { level: 'loud' }), /option "level" must be one of fatal, .*got 'loud'/)
})

test("makes children of the app's logger, of its own and of one that was given", async (t) => {
  for (const isGiven of [true, false]) {
    const { lines, stream } = array()
    const app = Fastify(isGiven ? { loggerInstance: createLogger({ stream }) } : {})
    const first = app.log
    await app.register(logging, isGiven ? {} : { stream })
    app.get('/', async () => {
      app.log.child({ module: 'late' }).info('here')
      first.child({ module: 'early' }).child({ part: 'two' }).info('here')
    })
    await app.inject('/')
    t.match(lines, [{ module: 'late', path: '/' }, { module: 'early', part: 'two', path: '/' }, { path: '/' }])
  }
})

test('gives one request a level of its own', async (t) => {
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, {
    stream,
    levelFor: ({ headers }) =>
      headers['x-debug'] === 'throw' ? JSON.parse('{') : headers['x-debug'] ? 'debug' : undefined
  })
  app.get('/', async (request) => {
    request.log.debug({ by: 'request.log' })
    logger().debug({ by: 'logger()' })
  })
  for (const debug of ['', 'throw']) await app.inject({ url: '/', headers: { 'x-debug': debug } })
  t.same(
    lines.filter(({ level }) => level === 'debug'),
    []
  )
  await app.inject({ url: '/', headers: { 'x-debug': 'yes' } })
  t.match(
    lines.filter(({ level }) => level === 'debug'),
    [{ by: 'request.log' }, { by: 'logger()' }]
  )
})

test('counts a levelFor that rejects, is async or returns nonsense, and takes no level from it', async (t) => {
  const wrong = [async () => Promise.reject(new Error('lookup failed')), async () => 'debug', () => 'loud', () => 7]
  for (const levelFor of wrong) {
    const { lines, stream } = array()
    const app = Fastify()
    await app.register(logging, { stream, levelFor: Object(levelFor) })
    app.get('/', async ({ log }) => log.debug('hidden'))
    await app.inject('/')
    await new Promise(setImmediate)
    const counted = registryOf(app).published[0]?.collect()
    t.same([...(counted ?? [])], [[{ observer: '@fastify-observability/logging' }, 1]])
    t.same(
      lines.map(({ msg }) => msg),
      ['an observer failed; what it observes is not affected', 'request completed']
    )
  }
})

test('writes healthy lines of a route at the level that the route asks for', async (t) => {
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, { stream })
  app.get('/chatty', { config: { observability: { log: 'debug' } } }, async () => 'ok')
  app.get('/chatty/500', { config: { observability: { log: 'debug' } } }, async (_request, reply) =>
    reply.code(500).send()
  )
  for (const url of ['/chatty', '/chatty/500']) await app.inject(url)
  t.match(lines, [{ level: 'error', status_code: 500 }])
  t.equal(lines.length, 1)
})

test('breaks the silence of a probe when it fails or takes over a second', async (t) => {
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, { stream })
  const config = { observability: { log: 'failures' as const } }
  app.get('/fast', { config }, async () => 'ok')
  app.get('/slow', { config }, async () => wait(1_010, 'ok'))
  app.get('/failing', { config }, async (_request, reply) => reply.code(503).send())
  for (const url of ['/fast', '/slow', '/failing']) await app.inject(url)
  t.match(lines, [
    { path: '/slow', level: 'warn', status_code: 200 },
    { path: '/failing', level: 'error', status_code: 503 }
  ])
  t.equal(lines.length, 2)
})

test('writes JSON to a file beside standard output, flushed when the app has closed', async (t) => {
  const path = join(await mkdtemp(join(tmpdir(), 'logging-')), 'app.log')
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, { service, stream, file: path })
  app.get('/', async () => 'ok')
  await app.inject('/')
  await app.close()
  const written = (await readFile(path, 'utf8')).trimEnd().split('\n')
  t.same(
    written.map((line) => JSON.parse(line)),
    lines
  )
})

test('sends lines over OTLP too, with trace and severity', async (t) => {
  const collector = await startCollector()
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector.url
  t.teardown(async () => {
    delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT
    await collector.close()
  })
  const { lines, stream } = array()
  const app = Fastify()
  await app.register(logging, { service, stream, otlp: true })
  registryOf(app).observe({
    name: 'test',
    start(observation) {
      observation.spanContext = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }
    }
  })
  app.get('/', async (request) => request.log.warn({ order: { id: 7 } }, 'look here'))
  await app.inject('/')
  await registryOf(app).flush(PATIENCE_MS)
  await app.close()
  t.equal(collector.logs.length, lines.length)
  t.match(collector.logs[0], {
    severity: 'warn',
    severityNumber: 13,
    body: 'look here',
    traceId: 'a'.repeat(32),
    spanId: 'b'.repeat(16),
    attributes: { order: { id: 7 }, request_id: 'req-1', path: '/' },
    resource: { 'service.name': 'shop', 'service.version': '1.2.3', 'deployment.environment.name': 'test' }
  })
})

test('counts the lines that a collector without an answer has not taken when the app closes', async (t) => {
  const sockets: Socket[] = []
  const mute = createServer((socket) => void sockets.push(socket)).listen(0, '127.0.0.1')
  await once(mute, 'listening')
  const address = mute.address()
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
  t.teardown(() => {
    delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT
    mute.close()
    for (const socket of sockets) socket.destroy()
  })
  const { lines, stream } = array()
  const file = join(await mkdtemp(join(tmpdir(), 'otlp-')), 'app.log')
  const app = Fastify()
  await app.register(logging, { service, stream, file, otlp: true })
  const lost = (): unknown => {
    const series = registryOf(app).published.find(({ name }) => name === 'log_lines_dropped_total')
    return series && [...series.collect()]
  }
  app.log.warn('one')
  app.log.warn('two')
  t.same(lost(), [])
  await app.close()
  t.same(lost(), [[{ reason: 'closed' }, lines.length]])
  app.log.warn('after it')
  // The file is closed too, and one series has both.
  t.same(lost(), [[{ reason: 'closed' }, lines.length + 1]])
})

test('counts lines by level, and dropped lines by reason', async (t) => {
  const broken = {
    write(line: string) {
      if (line.includes('broken')) throw new Error('no')
    }
  }
  const app = Fastify()
  await app.register(logging, { stream: broken })
  for (const text of ['fine', 'broken', 'broken']) app.log.warn(text)
  const published = new Map(registryOf(app).published.map(({ name, collect }) => [name, [...collect()]]))
  t.same(published.get('log_lines_total'), [[{ level: 'warn' }, 3]])
  t.same(published.get('log_lines_dropped_total'), [[{ reason: 'write_error' }, 2]])
})

test('refuses a file that cannot be opened', async (t) => {
  await t.rejects(async () => Fastify().register(logging, { file: '/dev/null/app.log' }), /\/dev\/null\/app\.log/)
})

for (const [named, app, isWarned] of [
  ['orders', { name: 'orders' }, false],
  ['orders', { name: 'payments' }, true],
  [undefined, { name: 'payments' }, true],
  ['orders', undefined, false]
] as const) {
  test(`${isWarned ? 'warns' : 'is silent'} where the logger names ${named} and the app ${app?.name}`, async (t) => {
    const { lines, stream } = array()
    const loggerInstance: FastifyBaseLogger = createLogger({ stream, ...(named && { service: { name: named } }) })
    await Fastify({ loggerInstance }).register(logging, app ? { service: app } : {})
    const warnings = lines.filter(({ level }) => level === 'warn').map(({ msg }) => msg)
    const expected = / names the service "(orders|unknown_service:node)", the app "payments": give both the same$/
    t.match(warnings, isWarned ? [expected] : [])
    t.equal(warnings.length, isWarned ? 1 : 0)
  })
}
