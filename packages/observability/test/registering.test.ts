import underPressure from '@fastify/under-pressure'
import health from '@fastify-observability/health'
import logging from '@fastify-observability/logging'
import metrics from '@fastify-observability/metrics'
import requestId from '@fastify-observability/request-id'
import tracing from '@fastify-observability/tracing'
import Fastify, { type FastifyInstance } from 'fastify'
import fastifyMetrics from 'fastify-metrics'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'

type Line = Record<string, unknown>
type Register = (app: FastifyInstance, stream: { write(line: string): void }) => unknown

const PARTS = { requestId, logging, tracing, metrics }
type Part = keyof typeof PARTS

/** The lines of an app, after it has answered one request. */
async function linesOf(t: Test, register: Register): Promise<Line[]> {
  const lines: Line[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const app = Fastify({ logger: { stream } })
  t.teardown(() => app.close())
  await register(app, stream)
  if (!app.hasRoute({ method: 'GET', url: '/' })) app.get('/', async () => 'ok')
  t.equal((await app.inject({ url: '/', headers: { 'x-request-id': 'r1', 'x-correlation-id': 'c1' } })).statusCode, 200)
  await app.inject('/nowhere')
  return lines
}

const warnings = (lines: Line[]): unknown[] =>
  lines
    .filter(({ level, msg }) => ['warn', '40'].includes(String(level)) && msg !== 'request completed')
    .map(({ msg }) => msg)

function permutations(parts: Part[]): Part[][] {
  if (parts.length < 2) return [parts]
  return parts.flatMap((part) => permutations(parts.filter((other) => other !== part)).map((rest) => [part, ...rest]))
}

for (const order of permutations(['requestId', 'logging', 'tracing', 'metrics'])) {
  test(`knows ids, trace and series in the order ${order.join(', ')}`, async (t) => {
    let span: unknown
    const lines = await linesOf(t, async (app) => {
      for (const part of order) await app.register(PARTS[part])
      app.get('/', async (request) => {
        span = request.span
        return 'ok'
      })
    })
    t.match(
      lines.find(({ route }) => route === '/'),
      { request_id: 'r1', correlation_id: 'c1', trace_id: String }
    )
    t.match(span, { attributes: { 'request.id': 'r1', 'correlation.id': 'c1' } })
    t.same(warnings(lines), [])
  })
}

const TWICE: Record<string, [register: Register, named: string[]]> = {
  'the umbrella twice': [
    async (app) => {
      await app.register(observability)
      await app.register(observability)
    },
    ['fastify-observability']
  ],
  'the umbrella again in a child': [
    async (app) => {
      await app.register(observability)
      await app.register(async (child) => child.register(observability))
    },
    ['fastify-observability']
  ],
  'a part after the umbrella': [
    async (app) => {
      await app.register(observability)
      await app.register(metrics)
    },
    ['@fastify-observability/metrics']
  ],
  'a part before the umbrella': [
    async (app) => {
      await app.register(health)
      await app.register(observability)
    },
    ['@fastify-observability/health']
  ],
  'logging twice': [
    async (app) => {
      await app.register(logging)
      await app.register(logging)
    },
    ['@fastify-observability/logging']
  ]
}
for (const [how, [register, named]] of Object.entries(TWICE)) {
  test(`works, with one sentence, for ${how}`, async (t) => {
    const lines = await linesOf(t, register)
    const ignored = 'already registered here or by a parent instance; this registration is ignored'
    t.same(
      warnings(lines),
      named.map((name) => `${name}: ${ignored}`)
    )
    t.equal(lines.filter(({ route }) => route === '/').length, 1)
  })
}

test('says in one sentence what a child instance does not see', async (t) => {
  const lines = await linesOf(t, (app) =>
    app.register(async (child) => {
      await child.register(observability)
      child.get('/', async () => 'ok')
    })
  )
  t.match(warnings(lines), [
    /registered in a child instance: .* 404s among them; .* wrap your plugin with fastify-plugin$/
  ])
  t.match(
    lines.find(({ route }) => route === '/'),
    { status_code: 200, request_id: 'r1', trace_id: String }
  )
})

const TAKEN: Record<string, [register: Register, message: RegExp]> = {
  'a /metrics before': [
    async (app) => {
      app.get('/metrics', async () => 'mine')
      await app.register(observability)
    },
    /^fastify-observability: GET \/metrics is a route of .* option metrics\.path/
  ],
  'a /metrics after': [
    async (app) => {
      await app.register(observability)
      app.get('/metrics', async () => 'mine')
    },
    /^fastify-observability: GET \/metrics is a route of .* option metrics\.path/
  ],
  'a /health after, of a plugin': [
    async (app) => {
      await app.register(observability)
      await app.register(async (child) => child.get('/', async () => 'mine'), { prefix: '/health' })
    },
    /^fastify-observability: GET \/health is a route of .* health\.paths/
  ],
  'fastify-metrics before': [
    async (app) => {
      await app.register(fastifyMetrics.default, { endpoint: null })
      await app.register(observability)
    },
    /metrics: app\.metrics is there already, .* metrics: false$/
  ],
  'an app.all on /metrics after': [
    async (app) => {
      await app.register(observability)
      app.all('/metrics', async () => 'mine')
    },
    /^fastify-observability: GET \/metrics is a route of .* option metrics\.path/
  ],
  'a route of several methods on /health before': [
    async (app) => {
      app.route({ method: ['GET', 'POST'], url: '/health', handler: async () => 'mine' })
      await app.register(observability)
    },
    /^fastify-observability: GET \/health is a route of .* health\.paths/
  ],
  'fastify-metrics after': [
    async (app) => {
      await app.register(observability)
      await app.register(fastifyMetrics.default, { endpoint: null, clearRegisterOnInit: true })
    },
    /metrics: app\.metrics is there already, .* metrics: false$/
  ],
  'an app.health before': [
    async (app) => {
      app.decorate('health', Object(null))
      await app.register(observability)
    },
    /health: app\.health is there already; .* health: false$/
  ],
  'a request.span after': [
    async (app) => {
      await app.register(observability)
      app.decorateRequest('span', undefined)
    },
    /tracing: request\.span is there already; .* tracing: false$/
  ],
  'under-pressure after, and `pressure`': [
    async (app) => {
      await app.register(observability, { health: { pressure: 'shed' } })
      await app.register(underPressure)
    },
    /^@fastify-observability\/health: @fastify\/under-pressure .* option "pressure"/
  ],
  'under-pressure before, and `pressure`': [
    async (app) => {
      await app.register(underPressure)
      await app.register(observability, { health: { pressure: 'shed' } })
    },
    /^@fastify-observability\/health: @fastify\/under-pressure .* option "pressure"/
  ]
}
for (const [what, [register, message]] of Object.entries(TAKEN)) {
  test(`names the suite and the option where there is ${what}`, async (t) => {
    await t.rejects(linesOf(t, register), { message })
  })
}

test('takes no decorator of the application for its own registration', async (t) => {
  const app = Fastify()
  app.decorate('management', undefined)
  await t.rejects(async () => app.register(observability), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
})

test('serves beside a /metrics of the application where its own is elsewhere, or behind a constraint', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, { logging: { level: 'silent' }, metrics: { path: '/observability/metrics' } })
  app.get('/metrics', async () => 'mine')
  app.get('/health', { constraints: { host: 'shop.example' } }, async () => 'mine')
  t.equal((await app.inject('/metrics')).body, 'mine')
  t.match((await app.inject('/observability/metrics')).body, 'http_server_request_duration_seconds')
  t.match((await app.inject('/health')).json(), { status: 'healthy' })
  t.equal((await app.inject({ url: '/health', headers: { host: 'shop.example' } })).body, 'mine')
})
