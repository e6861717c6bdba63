import { once } from 'node:events'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import health, { type HealthOptions } from '../src/index.ts'

async function service(options: HealthOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(health, { service: { version: '1.2.3' }, ...options })
  app.get('/', async () => 'ok')
  return app
}

async function readiness(checks: HealthOptions['checks']): Promise<[number, unknown]> {
  const { statusCode, body } = await (await service({ checks })).inject('/health/ready')
  return [statusCode, JSON.parse(body)]
}

const ok = async (): Promise<void> => undefined
const down = async (): Promise<never> => Promise.reject(new Error('no connection to db.internal:5432'))

test('is alive as long as the process answers', async (t) => {
  const { statusCode, body, headers } = await (await service({ checks: { database: down } })).inject('/health')
  t.equal(statusCode, 200)
  t.same(JSON.parse(body), { status: 'healthy', version: '1.2.3' })
  t.equal(headers['cache-control'], 'no-store')
})

test('is ready when every check passes', async (t) => {
  t.same(await readiness({}), [200, { status: 'ready', checks: {} }])
  t.same(await readiness({ database: ok, cache: () => 'PONG' }), [
    200,
    { status: 'ready', checks: { database: 'ok', cache: 'ok' } }
  ])
})

const thrown = (): never => {
  throw undefined
}

test('is not ready when a critical check rejects, throws or does not settle, and tells nobody why', async (t) => {
  for (const check of [down, thrown, { check: async () => new Promise(() => undefined), timeoutMs: 20 }]) {
    t.same(await readiness({ database: check, cache: ok }), [
      503,
      { status: 'not_ready', checks: { database: 'failed', cache: 'ok' } }
    ])
  }
})

test('is degraded, and still gets traffic, when only an uncritical check fails', async (t) => {
  t.same(await readiness({ database: ok, cache: { check: down, critical: false } }), [
    200,
    { status: 'degraded', checks: { database: 'ok', cache: 'failed' } }
  ])
})

test('aborts the signal of a check that has not settled in time', async (t) => {
  const signals: AbortSignal[] = []
  const check = async (signal: AbortSignal): Promise<unknown> => {
    signals.push(signal)
    return once(signal, 'abort')
  }
  t.match(await readiness({ database: { check, timeoutMs: 20 } }), [503])
  t.equal(signals[0]?.aborted, true)
})

test('has started once it answers', async (t) => {
  const { statusCode, body } = await (await service()).inject('/health/startup')
  t.equal(statusCode, 200)
  t.same(JSON.parse(body), { status: 'started' })
})

test('answers HEAD as it answers GET', async (t) => {
  const app = await service({ checks: { database: down } })
  t.match(await app.inject({ method: 'HEAD', url: '/health' }), { statusCode: 200, body: '' })
  t.match(await app.inject({ method: 'HEAD', url: '/health/ready' }), { statusCode: 503, body: '' })
})

test('sheds application routes past a limit, and never the probes', async (t) => {
  const app = await service({ pressure: { maxRssBytes: 1 } })
  app.get('/vital', { config: { observability: { shed: false } } }, async () => 'ok')
  t.teardown(() => app.close())
  await app.ready()
  await underPressure(app)
  const { statusCode, headers } = await app.inject('/')
  t.equal(statusCode, 503)
  t.equal(headers['retry-after'], '10')
  for (const url of ['/health', '/health/ready', '/health/startup', '/vital']) {
    t.equal((await app.inject(url)).statusCode, 200, url)
  }
})

// under-pressure takes its first sample a second after its start.
async function underPressure(app: FastifyInstance): Promise<void> {
  const deadline = AbortSignal.timeout(5_000)
  while (!app.isUnderPressure()) {
    deadline.throwIfAborted()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const name = '@fastify-observability/health'
const REFUSED: [object, string][] = [
  [{ chekcs: {} }, `${name}: unknown option "chekcs": did you mean "checks"?, got {}`],
  [
    { checks: { db: 'x' } },
    `${name}: option "checks.db" must be a function or { check, critical, timeoutMs, cacheMs, failAfter, recoverAfter }, got 'x'`
  ],
  [
    { checks: { db: { check: ok, timeoutMs: -1 } } },
    `${name}: option "checks.db.timeoutMs" must be a positive number, got -1`
  ],
  [
    { pressure: { maxRss: 1 } },
    `${name}: unknown option "pressure.maxRss": allowed are mode, maxEventLoopDelayMs, maxEventLoopUtilization, maxHeapUsedBytes, maxRssBytes, got 1`
  ]
]

test('refuses options that do not hold', async (t) => {
  for (const [options, sentence] of REFUSED) await t.rejects(service(options), new TypeError(sentence))
})
