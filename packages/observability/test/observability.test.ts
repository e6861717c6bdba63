import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import health from '@fastify-observability/health'
import logging, { logger } from '@fastify-observability/logging'
import metrics from '@fastify-observability/metrics'
import requestId from '@fastify-observability/request-id'
import sentry from '@fastify-observability/sentry'
import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import tracing, { withSpan } from '@fastify-observability/tracing'
import { trace } from '@opentelemetry/api'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions } from '../src/index.ts'
import { observe } from '../src/testing.ts'

type Line = Record<string, unknown>
const SERVICE = fileURLToPath(new URL('service.ts', import.meta.url))

async function backends(t: Test) {
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  return { collector, ingest }
}

/** Runs the service as a process, `talk`s to it, ends it, and returns what it has logged. */
async function serve(env: NodeJS.ProcessEnv, talk: (origin: string) => Promise<void>): Promise<Line[]> {
  const child = spawn(process.execPath, [SERVICE], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const lines: Line[] = []
  for await (const text of createInterface(child.stdout)) {
    const line = JSON.parse(text)
    lines.push(line)
    if (!line.msg.startsWith('Server listening at ')) continue
    await talk(line.msg.slice('Server listening at '.length)).finally(() => child.kill())
  }
  return lines
}

test('one register, zero options: header, log line, span, metric and error event of a request agree', async (t) => {
  const { collector, ingest } = await backends(t)
  const ids: (string | null)[] = []
  let exposition = ''
  const lines = await serve({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, SENTRY_DSN: ingest.dsn }, async (origin) => {
    for (const path of ['/orders/7', '/boom']) ids.push((await fetch(origin + path)).headers.get('x-request-id'))
    exposition = await (await fetch(`${origin}/metrics`)).text()
  })
  const completed = lines.filter(({ msg }) => msg === 'request completed')
  t.match(completed, [
    { request_id: ids[0], route: '/orders/:id', status_code: 200, aborted: false },
    { request_id: ids[1], route: '/boom', status_code: 500, err: { type: 'TypeError', message: 'boom' } }
  ])
  t.equal(completed.length, 2)
  for (const { request_id, trace_id, span_id, route } of completed) {
    const span = await collector.span(({ attributes }) => attributes['request.id'] === request_id)
    t.match(span, { traceId: trace_id, spanId: span_id, name: `GET ${route}`, kind: 'SERVER' })
  }
  t.match(exposition, /^http_server_request_duration_seconds_count\{[^}]*http_route="\/orders\/:id"[^}]*\} 1$/m)
  t.match(exposition, /^http_server_request_duration_seconds_count\{[^}]*http_route="\/boom"[^}]*\} 1$/m)
  t.match(exposition, /^otel_sdk_processor_span_queue_size \d+$/m)
  t.match(exposition, /^log_lines_total\{level="info"\} \d+$/m)
  const [, failed] = completed
  t.match(ingest.events, [
    { tags: { request_id: ids[1] }, contexts: { trace: { trace_id: failed?.trace_id, span_id: failed?.span_id } } }
  ])
  t.equal(ingest.events.length, 1)
})

test('the line about a request names its server span, though a span within it has sent the answer', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, { logging: { stream }, sentry: false })
  const seen = await observe(app, { timeoutMs: PATIENCE_MS })
  app.get('/sent', (request, reply) => {
    withSpan('child', () => {
      request.log.info('within')
      reply.send('ok')
    })
  })
  app.get('/failed', (_request, reply) => void withSpan('child', () => reply.send(new Error('boom'))))
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const path of ['/sent', '/failed']) await (await fetch(origin + path)).text()
  const [sent, failed] = [await seen.request({ route: '/sent' }), await seen.request({ route: '/failed' })]
  t.match(sent, { line: { route: '/sent', span_id: String }, span: { name: 'GET /sent', spanId: sent.line?.span_id } })
  t.match(failed, { line: { route: '/failed' }, span: { name: 'GET /failed', spanId: failed.line?.span_id } })
  const within = await seen.line('within')
  t.match(sent.spans[0], { name: 'child', spanId: within.span_id })
})

test('puts the span into lines that are written within it outside of any request', async (t) => {
  const app = Fastify()
  await app.register(observability, { logging: { stream }, sentry: false })
  const seen = await observe(app)
  const job = trace.getTracer('jobs')
  await withSpan('own', async () => app.log.info('own'))
  job.startActiveSpan('api', (span) => {
    logger().info('api')
    span.end()
  })
  await job.startActiveSpan('later', async (span) => {
    await wait(1)
    app.log.child({ part: 'a' }).info('later')
    span.end()
  })
  await app.close()
  t.equal(seen.spans.length, 3)
  for (const { name, traceId, spanId } of seen.spans)
    t.match(
      seen.lines.find(({ msg }) => msg === name),
      { trace_id: traceId, span_id: spanId }
    )
})

test('continues a trace and keeps the ids of a caller through every signal', async (t) => {
  const { collector, ingest } = await backends(t)
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01`, 'x-request-id': 'r-1', 'x-correlation-id': 'c-1' }
  const lines = await serve({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, SENTRY_DSN: ingest.dsn }, async (origin) => {
    await fetch(`${origin}/boom`, { headers })
  })
  t.match(
    lines.filter(({ route }) => route),
    [{ request_id: 'r-1', correlation_id: 'c-1', trace_id: traceId }]
  )
  t.match(collector.spans, [{ traceId, attributes: { 'request.id': 'r-1', 'correlation.id': 'c-1' } }])
  t.match(ingest.events, [
    { tags: { request_id: 'r-1', correlation_id: 'c-1' }, contexts: { trace: { trace_id: traceId } } }
  ])
})

interface Part {
  name: Exclude<keyof ObservabilityOptions, 'service'>
  plugin: FastifyPluginAsync<object>
  options?: object
  /** Whether the part is at work in an app that has answered a request. */
  works(app: FastifyInstance): Promise<boolean>
}

const lines: string[] = []
const stream = { write: (line: string) => void lines.push(line) }
const has = async (app: FastifyInstance, url: string) => (await app.inject(url)).statusCode === 200
const PARTS: Part[] = [
  { name: 'requestId', plugin: requestId, works: async (app) => 'x-request-id' in (await app.inject('/')).headers },
  {
    name: 'logging',
    plugin: logging,
    options: { stream },
    works: async (app) => {
      lines.length = 0
      await app.inject('/')
      return lines.join('').includes('request completed')
    }
  },
  { name: 'tracing', plugin: tracing, works: async (app) => (await app.inject('/span')).body === 'true' },
  { name: 'metrics', plugin: metrics, works: async (app) => has(app, '/metrics') },
  { name: 'health', plugin: health, works: async (app) => has(app, '/health/ready') },
  {
    name: 'sentry',
    plugin: sentry,
    works: async (app) => {
      const before = events()
      await app.inject('/boom')
      await app.close()
      return events() > before
    }
  }
]
let events = (): number => 0

async function application(register: (app: FastifyInstance) => PromiseLike<unknown>): Promise<FastifyInstance> {
  const app = Fastify()
  await register(app)
  app.get('/', async () => 'ok')
  app.get('/span', async ({ span }) => span?.isRecording() ?? false)
  app.get('/boom', async () => Promise.reject(new Error('boom')))
  return app
}

test('each part works alone, and can be left out of the umbrella', async (t) => {
  const { ingest } = await backends(t)
  events = () => ingest.events.length
  process.env.SENTRY_DSN = ingest.dsn
  t.teardown(() => delete process.env.SENTRY_DSN)
  for (const { name, plugin, options = {} } of PARTS) {
    const alone = await application((app) => app.register(plugin, options))
    for (const part of PARTS) t.equal(await part.works(alone), part.name === name, `${name} alone: ${part.name}`)
    const without = await application((app) => app.register(observability, { logging: { stream }, [name]: false }))
    for (const part of PARTS) t.equal(await part.works(without), part.name !== name, `without ${name}: ${part.name}`)
  }
})

test('hands the service to every part', async (t) => {
  const { collector, ingest } = await backends(t)
  const service = { name: 'shop', version: '1.2.3', environment: 'test' }
  const app = await application((app) =>
    app.register(observability, {
      service,
      logging: { stream },
      tracing: { endpoint: collector.url },
      sentry: { dsn: ingest.dsn }
    })
  )
  lines.length = 0
  await app.inject('/boom')
  t.match((await app.inject('/health')).json(), { version: '1.2.3' })
  await app.close()
  t.match(JSON.parse(lines[0] ?? '{}'), { service: 'shop', version: '1.2.3', environment: 'test' })
  const { resource } = await collector.span(({ kind }) => kind === 'SERVER')
  t.match(resource, { 'service.name': 'shop', 'service.version': '1.2.3', 'deployment.environment.name': 'test' })
  t.match(ingest.events, [{ release: 'shop@1.2.3', environment: 'test' }])
})

test('probes and /metrics leave neither lines nor spans', async (t) => {
  const app = await application((app) => app.register(observability, { logging: { stream } }))
  const seen = await observe(app)
  await app.ready()
  await seen.clear()
  for (const url of ['/metrics', '/health', '/health/ready', '/health/startup']) t.ok(await has(app, url), url)
  await app.close()
  t.same(seen.lines, [])
  t.same(seen.spans, [])
})

const name = 'fastify-observability'
const REFUSED: [object, string][] = [
  [{ loging: {} }, `${name}: unknown option "loging": did you mean "logging"?, got {}`],
  [{ metrics: 'on' }, `${name}: option "metrics" must be an object with the part's options, true or false, got 'on'`],
  [{ service: { name: 7 } }, `${name}: option "service.name" must be a non-empty string, got 7`],
  [{ health: { check: {} } }, '@fastify-observability/health: unknown option "check": did you mean "checks"?, got {}']
]

test('refuses wrong options at ready(), in one sentence', async (t) => {
  for (const [options, sentence] of REFUSED) {
    const app = Fastify()
    app.register(observability, options)
    await t.rejects(async () => app.ready(), new TypeError(sentence))
  }
})

test('serves on while nothing that it exports to is there', async (t) => {
  const nowhere = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', SENTRY_DSN: 'http://key@127.0.0.1:1/1' }
  const answers: number[] = []
  const lines = await serve(nowhere, async (origin) => {
    for (const path of ['/orders/7', '/boom', '/health/ready']) answers.push((await fetch(origin + path)).status)
  })
  t.same(answers, [200, 500, 200])
  t.match(lines.at(-1), { level: 'warn' }, 'and says so at the end')
})

test('takes the defaults of a part for `true`', async (t) => {
  const app = Fastify()
  await app.register(observability, {
    requestId: true,
    logging: false,
    tracing: true,
    metrics: true,
    health: true,
    sentry: true
  })
  t.teardown(() => app.close())
  t.match((await app.inject('/health')).headers, { 'x-request-id': /^[0-9a-f-]{36}$/ })
  t.match((await app.inject('/metrics')).body, 'http_server_request_duration_seconds')
})
