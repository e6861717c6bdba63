import { execFile } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { createRedactor, registryOf } from '@fastify-observability/observation/internal'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import health, { disk, type HealthOptions, http, redis } from '../src/index.ts'

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

const name = '@fastify-observability/health'
// TLS by a key that both know needs no certificate.
const KEY = Buffer.alloc(16, 7)
const PSK = { ciphers: 'PSK', maxVersion: 'TLSv1.2' } as const
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

test('is not ready when a critical check rejects, throws or does not settle, and gives no reason', async (t) => {
  for (const check of [down, thrown, { check: async () => new Promise(() => undefined), timeoutMs: 20 }]) {
    t.same(await readiness({ database: check, cache: ok }), [
      503,
      { status: 'not_ready', checks: { database: 'failed', cache: 'ok' } }
    ])
  }
})

test('is degraded, and still receives traffic, when only an uncritical check fails', async (t) => {
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

const rejections: unknown[] = []
process.on('unhandledRejection', (reason) => rejections.push(reason))

const BAD: Record<string, () => unknown> = {
  'never settles': () => new Promise(() => undefined),
  'settles late': () => wait(400),
  'rejects late': () => wait(400).then(down),
  'throws undefined': thrown,
  'rejects with undefined': () => Promise.reject(undefined),
  'returns what cannot become JSON': () => ({ toJSON: thrown })
}
for (const [how, check] of Object.entries(BAD)) {
  test(`is not ready in time for a check that ${how}`, async (t) => {
    const startedAt = performance.now()
    t.same(await readiness({ database: { check, timeoutMs: 20 } }), [
      503,
      { status: 'not_ready', checks: { database: 'failed' } }
    ])
    t.ok(performance.now() - startedAt < STARVED_MS)
    await wait(450)
    t.same(rejections, [])
  })
}

test('runs a check once for 500 probes at a time, and again when its result is too old', async (t) => {
  let runs = 0
  const asked = new EventEmitter()
  const check = async (): Promise<unknown> => {
    runs++
    return once(asked, 'all')
  }
  const app = await service({ checks: { database: { check, cacheMs: 100, timeoutMs: PATIENCE_MS } } })
  let probes = 0
  app.addHook('preHandler', async () => {
    if (++probes >= 500) setImmediate(() => asked.emit('all'))
  })
  const answers = await Promise.all(Array.from({ length: 500 }, () => app.inject('/health/ready')))
  t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 500)
  t.equal(runs, 1)
  await wait(110)
  await app.inject('/health/ready')
  t.equal(runs, 2)
})

test('fails after failAfter failures in a row, and recovers after recoverAfter successes', async (t) => {
  const results = [ok, down, ok, down, down, ok, ok]
  const check = async (): Promise<void> => results.shift()?.()
  const app = await service({ checks: { database: { check, cacheMs: 0, failAfter: 2, recoverAfter: 2 } } })
  const statuses: number[] = []
  for (let probe = 0; probe < 7; probe++) statuses.push((await app.inject('/health/ready')).statusCode)
  t.same(statuses, [200, 200, 200, 200, 503, 503, 200])
})

test('logs one line when the state of a check changes, and none while it stays', async (t) => {
  const results = [ok, down, down, ok, ok]
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line) => void lines.push(line) } }, disableRequestLogging: true })
  await app.register(health, { checks: { database: { check: async () => results.shift()?.(), cacheMs: 0 } } })
  for (let probe = 0; probe < 5; probe++) await app.inject('/health/ready')
  t.match(
    lines.map((line) => JSON.parse(line)),
    [
      { level: 50, msg: 'health check failed', check: 'database', critical: true, err: { message: String } },
      { level: 30, msg: 'health check recovered', check: 'database' }
    ]
  )
  t.equal(lines.length, 2)
})

test('gives details where they are allowed, without secrets', async (t) => {
  const checks = {
    database: () => ({ utilization: '3/10', nested: {} }),
    queue: () => Promise.reject(new Error('password=planted is wrong'))
  }
  for (const details of [
    'always',
    ({ headers }) => headers.authorization === 'ops'
  ] satisfies HealthOptions['details'][]) {
    const app = await service({ checks, details })
    const { body } = await app.inject({ url: '/health/ready', headers: { authorization: 'ops' } })
    t.match(JSON.parse(body).details, {
      database: { utilization: '3/10', critical: true, duration_ms: Number },
      queue: { error: /^password=.* is wrong$/, critical: true, duration_ms: Number }
    })
    t.notMatch(body, /planted|nested/)
  }
})

test('gives no details when the function for details returns false or throws', async (t) => {
  for (const details of [() => false, thrown]) {
    const app = await service({ checks: { database: () => ({ utilization: '3/10' }) }, details })
    t.same((await app.inject('/health/ready')).json(), { status: 'ready', checks: { database: 'ok' } })
  }
})

test('serves the probes on a management app too, always with details', async (t) => {
  const management = Fastify()
  const app = await service({ checks: { database: () => ({ utilization: '3/10' }) }, management })
  t.teardown(() => Promise.all([app.close(), management.close()]))
  t.match(await management.inject('/health/ready'), { statusCode: 503 }, 'before the application listens')
  t.match(await management.inject('/health/startup'), { statusCode: 503 })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { statusCode, body } = await management.inject('/health/ready')
  t.equal(statusCode, 200)
  t.match(JSON.parse(body), { status: 'ready', details: { database: { utilization: '3/10', critical: true } } })
  t.same((await app.inject('/health/ready')).json(), { status: 'ready', checks: { database: 'ok' } })
  t.match(await management.inject('/health'), { statusCode: 200 })
  await app.close()
  t.match(await management.inject('/health/ready'), { statusCode: 503 }, 'after it has closed')
})

test('serves its probes at the paths of the option', async (t) => {
  const app = await service({ paths: { liveness: '/livez', readiness: '/readyz', startup: '/startupz' } })
  for (const url of ['/livez', '/readyz', '/startupz']) t.equal((await app.inject(url)).statusCode, 200, url)
  for (const url of ['/health', '/health/ready']) t.equal((await app.inject(url)).statusCode, 404, url)
})

test('answers HEAD where exposeHeadRoutes is false', async (t) => {
  const app = Fastify({ exposeHeadRoutes: false })
  await app.register(health)
  t.match(await app.inject({ method: 'HEAD', url: '/health/ready' }), { statusCode: 200, body: '' })
})

test('accepts checks after registration, and setReady overrules them', async (t) => {
  const app = await service()
  app.health.add('database', { check: down, critical: false })
  t.match(app.health.state, { status: 'not_ready', checks: { database: { state: 'unknown' } } })
  t.same((await app.inject('/health/ready')).json(), { status: 'degraded', checks: { database: 'failed' } })
  t.match(app.health.state, { status: 'degraded', started: true, checks: { database: { state: 'failed' } } })
  app.health.setReady(false)
  t.match(await app.inject('/health/ready'), { statusCode: 503 })
  app.health.setReady(true)
  t.match(await app.inject('/health/ready'), { statusCode: 200 })
  t.throws(() => app.health.add('database', ok), new TypeError(`${name}: a check named "database" already exists`))
})

test('publishes the last result and duration of each check, and runs none for it', async (t) => {
  const app = await service({ checks: { database: ok, cache: { check: down, critical: false } } })
  const samples = () =>
    registryOf(app)
      .published.filter(({ name }) => name.startsWith('health_check_'))
      .map(({ name, collect }) => [name, ...collect()])
  t.same(samples(), [['health_check_up'], ['health_check_duration_seconds']])
  await app.inject('/health/ready')
  t.match(samples(), [
    ['health_check_up', [{ check: 'database' }, 1], [{ check: 'cache' }, 0]],
    ['health_check_duration_seconds', [{ check: 'database' }, Number], [{ check: 'cache' }, Number]]
  ])
})

test('does not fail a check whose answer came while the event loop was blocked', async (t) => {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const ours = connect(Number(Object(server.address()).port), '127.0.0.1')
  const [[theirs]] = await Promise.all([once(server, 'connection'), once(ours.resume(), 'connect')])
  t.teardown(() => {
    for (const end of [ours, theirs]) end.destroy()
    server.close()
  })
  const check = async (): Promise<void> => {
    const answered = once(ours, 'data')
    theirs.write('PONG')
    block(300)
    await answered
  }
  t.match(await readiness({ database: { check, timeoutMs: 200 } }), [200])
})

function block(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}

test('http: healthy while the URL answers with 2xx', async (t) => {
  const upstream = Fastify()
  upstream.get('/up', async () => 'ok')
  await upstream.listen({ port: 0, host: '127.0.0.1' })
  const origin = upstream.listeningOrigin
  const app = await service({
    checks: {
      up: { check: http(`${origin}/up`), timeoutMs: PATIENCE_MS },
      missing: { check: http(`${origin}/missing`), critical: false, cacheMs: 0, timeoutMs: PATIENCE_MS }
    }
  })
  t.same((await app.inject('/health/ready')).json(), { status: 'degraded', checks: { up: 'ok', missing: 'failed' } })
  t.match(app.health.state.checks, { up: { details: { status: 200 } }, missing: { error: 'answered 404' } })
  await upstream.close()
  await app.inject('/health/ready')
  t.match(app.health.state.checks, { missing: { error: 'fetch failed' } })
})

test('disk: healthy while there is room', async (t) => {
  const checks = {
    roomy: { check: disk('/', { minFreeBytes: 1 }), timeoutMs: PATIENCE_MS },
    full: { check: disk('/', { minFreeBytes: 1e18 }), timeoutMs: PATIENCE_MS },
    gone: { check: disk('/nowhere'), timeoutMs: PATIENCE_MS }
  }
  const app = await service({ checks })
  await app.inject('/health/ready')
  t.match(app.health.state.checks, {
    roomy: { state: 'ok', details: { free_bytes: Number, utilization: /^\d+%$/ } },
    full: { state: 'failed', error: /^\d+ bytes are free, fewer than 1000000000000000000$/ },
    gone: { state: 'failed', error: /^ENOENT/ }
  })
})

test('gives requests a deadline and names those it aborted when the app is closed by hand', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line) => void lines.push(line) } } })
  await app.register(health, { shutdown: { signals: [], timeoutMs: 100 } })
  app.get('/hang', () => new Promise(() => undefined))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const hung = fetch(`${app.listeningOrigin}/hang`).catch(({ cause }) => cause.code)
  while (!lines.some((line) => line.includes('/hang'))) await wait(5)
  await app.close()
  t.match(await hung, /ECONNRESET|UND_ERR_SOCKET/)
  t.match(JSON.parse(lines.at(-1) ?? '{}'), {
    msg: 'closed; requests were aborted',
    aborted_requests: [{ method: 'GET', route: '/hang' }]
  })
})

// From Node 26 on a server that closes ends connections without a request itself, at once.
const CLOSES_SILENT = Number(process.versions.node.split('.', 1)) >= 26

for (const secure of [false, true]) {
  test(`closes connections without a request and serves a late first one, ${secure ? 'with' : 'without'} TLS`, async (t) => {
    const https = secure ? { ...PSK, pskCallback: () => KEY } : null
    const app = Fastify({ https, return503OnClosing: false })
    await app.register(health, { shutdown: { signals: [] } })
    app.get('/', async () => 'served')
    await app.listen({ port: 0, host: '127.0.0.1' })
    const silent = await open()
    const late = await open()
    const answer = text(late)
    const left = once(silent, 'close')
    const startedAt = performance.now()
    const closed = app.close()
    // Read before the timer that closes those without a request, however late that is.
    await turn()
    late.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n')
    await Promise.all([closed, left])
    t.match(await answer, CLOSES_SILENT ? /^$/ : /^HTTP\/1\.1 200 .*served$/s)
    t.ok(performance.now() - startedAt < STARVED_MS)

    async function open(): Promise<Socket> {
      const port = Number(new URL(app.listeningOrigin).port)
      const accepted = once(app.server, 'connection')
      const pskCallback = () => ({ psk: KEY, identity: '' })
      const socket = secure
        ? connectTls({ port, ...PSK, pskCallback, checkServerIdentity: () => undefined })
        : connect({ port })
      await Promise.all([accepted, once(socket, secure ? 'secureConnect' : 'connect')])
      return socket
    }
  })
}

test('leaves no listener on the process behind', async (t) => {
  const events = ['SIGTERM', 'SIGINT', 'uncaughtException', 'unhandledRejection']
  const before = events.map((event) => process.listenerCount(event))
  const app = await service({ shutdown: true })
  t.same(
    events.map((event) => process.listenerCount(event)),
    before.map((count) => count + 1)
  )
  await app.close()
  t.same(
    events.map((event) => process.listenerCount(event)),
    before
  )
})

test('fifty apps that are open listen once, as long as one of them is, and Node warns of nothing', async (t) => {
  const warnings: Error[] = []
  const warned = (warning: Error): void => void warnings.push(warning)
  process.on('warning', warned)
  const counts = () => ['SIGTERM', 'SIGUSR2', 'unhandledRejection'].map((event) => process.listenerCount(event))
  const before = counts()
  const [first, ...others] = await Promise.all(
    Array.from({ length: 50 }, (_, nth) => service({ shutdown: nth % 2 ? true : { signals: ['SIGTERM', 'SIGUSR2'] } }))
  )
  const open = before.map((count) => count + 1)
  t.same(counts(), open)
  await Promise.all(others.map((app) => app.close()))
  t.same(counts(), open)
  await first?.close()
  t.same(counts(), before)
  process.off('warning', warned)
  t.same(warnings, [])
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

test('answers 404 under pressure too, which costs nothing', async (t) => {
  const app = await service({ pressure: { maxRssBytes: 1 } })
  t.teardown(() => app.close())
  await app.ready()
  await underPressure(app)
  t.equal((await app.inject('/nowhere')).statusCode, 404)
})

test('does not count the work of starting up as pressure', async (t) => {
  const app = await service({ pressure: { maxEventLoopDelayMs: 100, maxEventLoopUtilization: 0.5 } })
  t.teardown(() => app.close())
  const loadedAt = performance.now() + 1_200
  while (performance.now() < loadedAt);
  await app.ready()
  await underPressure(app)
  t.equal((await app.inject('/')).statusCode, 200)
})

// under-pressure takes its first sample a second after its start.
async function underPressure(app: FastifyInstance): Promise<void> {
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  while (!app.isUnderPressure()) {
    deadline.throwIfAborted()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const REFUSED: [object, string][] = [
  [{ chekcs: {} }, `${name}: unknown option "chekcs": did you mean "checks"?, got {}`],
  [
    { checks: { db: 'x' } },
    `${name}: option "checks.db" must be a function or { check, critical, timeoutMs, cacheMs, failAfter, recoverAfter }, got 'x'`
  ],
  [
    { checks: { db: { check: ok, timeoutMs: -1 } } },
    `${name}: option "checks.db.timeoutMs" must be a number of milliseconds from 1 to 86400000, a day, got -1`
  ],
  [
    { shutdown: { timeoutMs: Number.POSITIVE_INFINITY } },
    `${name}: option "shutdown.timeoutMs" must be a number of milliseconds from 0 to 86400000, a day, got Infinity`
  ],
  [{ pressure: 'all' }, `${name}: option "pressure" must be 'shed', 'readiness' or 'both', or limits, got 'all'`],
  [
    { shutdown: { signals: ['SIGKILL'] } },
    `${name}: option "shutdown.signals.0" must be one of SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2, got 'SIGKILL'`
  ],
  [
    { pressure: { maxRss: 1 } },
    `${name}: unknown option "pressure.maxRss": allowed are mode, maxEventLoopDelayMs, maxEventLoopUtilization, maxHeapUsedBytes, maxRssBytes, got 1`
  ]
]

test('rejects invalid options', async (t) => {
  for (const [options, sentence] of REFUSED) await t.rejects(service(options), new TypeError(sentence))
})

test('redacts details whose names or values are secret', async (t) => {
  const check = () => ({ password: 'planted-1', token_count: 3, url: 'http://a/?code=planted-2', api_key: 7 })
  const app = await service({ checks: { database: check }, details: 'always' })
  const { body } = await app.inject('/health/ready')
  t.match(JSON.parse(body).details.database, {
    password: '[redacted]',
    api_key: '[redacted]',
    token_count: 3,
    url: 'http://a/?code=[redacted]'
  })
  t.notMatch(body, 'planted')
})

test('redacts details by the names that the app adds', async (t) => {
  const app = await service({ checks: { database: () => ({ loyalty_number: 'planted' }) }, details: 'always' })
  registryOf(app).redactor = createRedactor({ redact: ['loyalty_number'] })
  t.notMatch((await app.inject('/health/ready')).body, 'planted')
})

test('gives no details when the function for details is async, and reports it', async (t) => {
  for (const details of [async () => true, async () => Promise.reject(new Error('no'))] as never[]) {
    const app = await service({ checks: { database: () => ({ utilization: '3/10' }) }, details })
    t.same((await app.inject('/health/ready')).json(), { status: 'ready', checks: { database: 'ok' } })
    const errors = registryOf(app).published.find(({ name }) => name === 'observability_observer_errors_total')
    t.same(Array.from(errors?.collect() ?? []), [[{ observer: name }, 1]])
  }
})

test('lets an authentication hook exempt the probes by their config', async (t) => {
  const app = Fastify()
  await app.register(health)
  app.addHook('onRequest', async ({ routeOptions }, reply) => {
    if (routeOptions.config?.observability?.operational) return
    return reply.code(401).send({ error: 'log in' })
  })
  app.get('/', async () => 'ok')
  for (const url of ['/health', '/health/ready', '/health/startup']) t.match(await app.inject(url), { statusCode: 200 })
  for (const url of ['/', '/nowhere']) t.match(await app.inject(url), { statusCode: 401 })
})

test('runs the checks that are due where the application asks for the state', async (t) => {
  const app = await service({ checks: { database: () => ({ latency: 3 }), cache: down } })
  await app.ready()
  t.match(app.health.state.checks, { database: { state: 'unknown' } })
  t.match(await app.health.check(), {
    status: 'not_ready',
    checks: { database: { state: 'ok', details: { latency: 3 } }, cache: { state: 'failed', error: /no connection/ } }
  })
})

test('cuts what an error says at 200 characters', async (t) => {
  const app = await service({
    details: 'always',
    checks: { db: async () => Promise.reject(new Error('x'.repeat(500))) }
  })
  const { details } = (await app.inject('/health/ready')).json()
  t.equal(details.db.error, 'x'.repeat(200))
})

test('gives twenty details of a check at most, and says so of an error that cannot be read', async (t) => {
  const many = Object.fromEntries(Array.from({ length: 50 }, (_, number) => [`detail_${number}`, number]))
  const hidden = Object.defineProperty(new Error(), 'message', { get: thrown })
  // Without a message its code is asked for.
  const coded = Object.defineProperty(new Error(), 'code', { get: thrown })
  const checks = {
    many: () => many,
    hidden: async () => Promise.reject(hidden),
    coded: async () => Promise.reject(coded)
  }
  const app = await service({ details: 'always', checks })
  const { details } = (await app.inject('/health/ready')).json()
  t.equal(Object.keys(details.many).filter((key) => key.startsWith('detail_')).length, 20)
  t.same([details.hidden.error, details.coded.error], ['[unreadable]', '[unreadable]'])
})

test('http: follows no redirect', async (t) => {
  const moved = Fastify()
  moved.get('/', async (_request, reply) => reply.redirect('/there'))
  moved.get('/there', async () => 'ok')
  t.teardown(() => moved.close())
  const url = await moved.listen({ port: 0, host: '127.0.0.1' })
  t.match(await readiness({ moved: http(url) }), [503, { checks: { moved: 'failed' } }])
})

test('redis: asks a server that hangs once, and survives the error of a broken connection', async (t) => {
  let pings = 0
  const ping = async (): Promise<never> => {
    pings++
    return new Promise(() => undefined)
  }
  const client = Object.assign(new EventEmitter(), { isReady: true, ping })
  const app = await service({ checks: { redis: { check: redis(client), timeoutMs: 20, cacheMs: 0 } } })
  for (const _ of [1, 2]) t.equal((await app.inject('/health/ready')).statusCode, 503)
  t.equal(pings, 1)
  t.doesNotThrow(() => client.emit('error', new Error('ECONNRESET')))
})

test('lets a process end that watches the pressure and never listens', async (t) => {
  const health = JSON.stringify(new URL('../src/index.ts', import.meta.url).href)
  const code = `import Fastify from 'fastify'; import health from ${health}
    await Fastify().register(health, { pressure: 'both' }).ready(); console.log('ready')`
  const settings = { cwd: import.meta.dirname, timeout: PATIENCE_MS }
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], settings)
  t.equal(stdout, 'ready\n')
})
