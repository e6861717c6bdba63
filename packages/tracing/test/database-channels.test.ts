import { tracingChannel } from 'node:diagnostics_channel'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { type Test, test } from 'tap'
import tracing, { withSpan } from '../src/index.ts'
import { PRELOADED, serve, shapes } from './served.ts'
import { spansOf, traced, withEnv } from './traced.ts'

const { TEST_REDIS_URL = '' } = process.env
const NO_REDIS = !TEST_REDIS_URL && 'TEST_REDIS_URL names no Redis'
const KINDS = { ESM: 'clients.mjs', CommonJS: 'clients.cjs' }
const CHANNELS = [
  ...['ioredis:command', 'ioredis:batch', 'ioredis:connect'],
  ...['node-redis:command', 'node-redis:batch', 'node-redis:connect'],
  ...['mysql2:query', 'mysql2:execute', 'mysql2:pool:connect']
]

/** The spans of what a service has asked of its databases for the paths. */
async function databaseSpans(t: Test, service: string, paths: string[], args: string[], env: NodeJS.ProcessEnv = {}) {
  const { spans } = await serve(t, service, args, env, paths)
  // Here the ports are the same in each run.
  for (const { attributes } of spans) attributes.port = attributes['server.port']
  return shapes(spans).filter(({ attributes }) => 'db.system.name' in attributes)
}

function subscribed(): string[] {
  return CHANNELS.filter((name) => tracingChannel(name).hasSubscribers)
}

/** Both clients, connected. */
async function clients(t: Test) {
  const io = new Redis(TEST_REDIS_URL)
  const redis = createClient({ url: TEST_REDIS_URL })
  await Promise.all([io.ping(), redis.connect()])
  t.teardown(() => Promise.all([io.quit(), redis.close()]))
  return { io, redis }
}

for (const [kind, service] of Object.entries(KINDS)) {
  for (const LOADED of ['before', 'after']) {
    test(`${kind}: clients loaded ${LOADED} the plugin have the spans that the preload makes, one a command`, {
      skip: NO_REDIS
    }, async (t) => {
      const [bare = [], preloaded] = await Promise.all(
        [[], PRELOADED].map((args) => databaseSpans(t, service, ['/commands'], args, { LOADED }))
      )
      t.same(bare, preloaded)
      t.same(
        bare.map(({ name }) => name),
        [
          'redis-connect',
          ...['set', 'get', 'NONSENSE', 'multi', 'set', 'incr', 'exec'],
          ...['redis-SET', 'redis-PING', 'redis-nonsense', 'redis-GET', 'redis-GET', 'redis-GET', 'redis-STRLEN'],
          'redis-connect'
        ]
      )
      t.notMatch(JSON.stringify(bare), /secret/)
      t.same(new Set(bare.map(({ attributes }) => attributes.port)), new Set([Number(new URL(TEST_REDIS_URL).port)]))
    })
  }
}

test('a client that is connected for a request has the spans that the preload makes', { skip: NO_REDIS }, async (t) => {
  const [bare, preloaded] = await Promise.all(
    [[], PRELOADED].map((args) => databaseSpans(t, 'clients.mjs', ['/late'], args))
  )
  t.same(bare, preloaded)
  t.same(
    bare?.map(({ name, parent }) => [name, parent]),
    [
      ['redis-connect', undefined],
      ['connect', 'GET /late'],
      ['get', 'GET /late']
    ]
  )
})

test('each command of a pipeline of ioredis has one span, which only the preload knows as part of it', {
  skip: NO_REDIS
}, async (t) => {
  const [bare, preloaded] = await Promise.all(
    [[], PRELOADED].map((args) => databaseSpans(t, 'clients.mjs', ['/pipeline'], args))
  )
  const operations = (spans: typeof bare) => spans?.map(({ attributes }) => attributes['db.operation.name'])
  t.same(operations(bare), [undefined, 'set', 'get'])
  t.same(operations(preloaded), [undefined, 'PIPELINE set', 'PIPELINE get'])
})

test('a transaction of redis, whose commands are not published, has one span', { skip: NO_REDIS }, async (t) => {
  const { redis } = await clients(t)
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async () => redis.multi().set('key:secret', 'secret').get('key:secret').exec())
  })
  await app.inject('/')
  const [span] = await spansOf(app, collector)
  const { hostname, port } = new URL(TEST_REDIS_URL)
  t.match(span, {
    name: 'redis-MULTI',
    attributes: {
      'db.system.name': 'redis',
      'db.operation.name': 'MULTI',
      'db.operation.batch.size': 2,
      'db.query.text': 'MULTI',
      'server.address': hostname,
      'server.port': Number(port)
    }
  })
})

test('the command of a pipeline that fails is the one whose span is an error', { skip: NO_REDIS }, async (t) => {
  const { redis } = await clients(t)
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async () => {
      await redis
        .multi()
        .set('key', 'text')
        .incr('key')
        .execAsPipeline()
        .catch(() => undefined)
      return 'asked'
    })
  })
  await app.inject('/')
  const spans = shapes(await spansOf(app, collector)).filter(({ kind }) => kind === 'CLIENT')
  t.same(
    spans.map(({ name, status, happened }) => [name, status, happened]),
    [
      ['redis-SET', 'UNSET', []],
      ['redis-INCR', 'ERROR', [{ 'exception.type': 'Error' }]]
    ]
  )
})

for (const [what, options, config] of [
  ['a request that is not sampled', { sampleRatio: 0 }, {}],
  ['a route that is not traced', {}, { observability: { trace: false } }]
] as const) {
  test(`what is sent for ${what} has no span`, { skip: NO_REDIS }, async (t) => {
    const { io, redis } = await clients(t)
    const send = async () => [await io.get('key'), await redis.get('key'), await redis.multi().get('key').exec()]
    const { app, collector } = await traced(t, (app) => void app.get('/', { config }, send), options)
    await app.inject('/')
    t.same(await spansOf(app, collector), [])
  })
}

test('what is sent for a request whose trace is kept has its span, though it was not sampled', {
  skip: NO_REDIS
}, async (t) => {
  const { io, redis } = await clients(t)
  const fail = async () => {
    await Promise.all([io.get('key'), redis.get('key')])
    throw new Error('failed')
  }
  const { app, collector } = await traced(t, (app) => void app.get('/', fail), { sampleRatio: 0, keep: true })
  await app.inject('/')
  const spans = await spansOf(app, collector)
  t.same(spans.map(({ name }) => name).toSorted(), ['GET /', 'get', 'redis-GET'])
})

test('what is sent outside of requests has no span, nor what is sent after the close', {
  skip: NO_REDIS
}, async (t) => {
  const { io, redis } = await clients(t)
  const { app, collector } = await traced(t)
  await Promise.all([io.get('key'), redis.get('key'), redis.multi().get('key').exec()])
  const spans = await spansOf(app, collector)
  await Promise.all([io.get('key'), redis.get('key')])
  t.same(spans, [])
})

test('several apps have one span a command, until the last one closes', { skip: NO_REDIS }, async (t) => {
  const { io, redis } = await clients(t)
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async () => [await io.get('key'), await redis.get('key')])
  })
  const other = Fastify()
  await other.register(tracing)
  await app.inject('/')
  await app.close()
  t.same(subscribed(), CHANNELS)
  await other.close()
  t.same(subscribed(), [])
  t.same(collector.spans.map(({ name }) => name).toSorted(), ['GET /', 'get', 'redis-GET'])
})

test('commands that wait for a connection are not taken for those of the request that opens it', {
  skip: NO_REDIS
}, async (t) => {
  const late = new Redis(TEST_REDIS_URL, { lazyConnect: true })
  t.teardown(() => late.quit())
  const { app, collector } = await traced(t, (app) => {
    app.get('/first', async () => late.get('key'))
    app.get('/second', async () => late.get('key'))
  })
  await Promise.all([app.inject('/first'), app.inject('/second')])
  const spans = shapes(await spansOf(app, collector))
  t.same(
    spans.filter(({ kind }) => kind === 'CLIENT').map(({ name, parent }) => [name, parent]),
    [['connect', 'GET /first']]
  )
})

test('nothing is subscribed where OpenTelemetry is switched off', async (t) => {
  withEnv(t, { OTEL_SDK_DISABLED: 'true' })
  const app = Fastify()
  await app.register(tracing)
  t.teardown(() => app.close())
  await app.ready()
  t.same(subscribed(), [])
})

test('a message that nobody can read harms no command, and is reported', async (t) => {
  const { app } = await traced(t)
  const reported: unknown[] = []
  app.log.error = (...args: unknown[]) => void reported.push(args)
  const unreadable = {
    get args() {
      throw new Error('unreadable')
    }
  }
  const channel = tracingChannel('ioredis:command')
  const result = await withSpan('around', () => channel.tracePromise(async () => 'answered', unreadable))
  t.equal(result, 'answered')
  t.equal(reported.length, 1)
})
