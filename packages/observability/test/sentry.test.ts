import { EventEmitter, once } from 'node:events'
import http, { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { logger } from '@fastify-observability/logging'
import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions, type SentryOptions, withSpan } from '../src/index.ts'

type Line = Record<string, unknown>

async function service(t: Test, sentry: SentryOptions = {}, options: ObservabilityOptions = {}) {
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  const lines: Line[] = []
  const written = new EventEmitter()
  const stream = { write: (line: string) => written.emit('line', lines.push(JSON.parse(line))) }
  const app = Fastify()
  await app.register(observability, {
    service: { name: 'shop', version: '1.0.0', environment: 'test' },
    logging: { stream, format: 'json' },
    tracing: { endpoint: collector.url },
    sentry: { dsn: ingest.dsn, ...sentry },
    ...options
  })
  t.teardown(async () => {
    await app.close()
    await Promise.all([collector.close(), ingest.close()])
  })
  /** The canonical line of a request, written already or to come. */
  async function lineOf(requestId: string): Promise<Line> {
    for (;;) {
      const line = lines.find(({ route, request_id }) => route !== undefined && request_id === requestId)
      if (line) return line
      await once(written, 'line')
    }
  }
  return { app, collector, ingest, lines, lineOf }
}

async function originOf(app: FastifyInstance): Promise<string> {
  return app.server.listening
    ? `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
    : app.listen({ port: 0 })
}

/** Ends the call that waits, as its client would. */
let leave = (): void => undefined

function defineRoutes(app: FastifyInstance): void {
  app.get('/thrown/:status', async ({ params }) => {
    const statusCode = Number((params as { status: string }).status)
    throw Object.assign(new TypeError('thrown'), { statusCode })
  })
  app.get('/bare', async (_request, reply) => reply.code(500).send('no exception'))
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(halfWay())))
  app.get('/never', async () => {
    leave()
    return new Promise<void>(() => undefined)
  })
  app.get('/hook', { onRequest: async () => Promise.reject(new Error('hook')) }, async () => 'ok')
  const schema = { querystring: { type: 'object', required: ['q'], properties: { q: { type: 'string' } } } }
  app.get('/valid', { schema }, async () => 'ok')
  app.register(async (scope) => {
    scope.setErrorHandler((_error, _request, reply) => reply.code(404).send())
    scope.get('/mapped', async () => Promise.reject(new Error('domain error')))
  })
}

async function* halfWay(): AsyncGenerator<string> {
  yield 'half'
  throw new RangeError('half way')
}

/** Asks, and leaves a route that gives no answer. */
async function ask(url: string, requestId: string): Promise<void> {
  const leaving = new AbortController()
  leave = () => leaving.abort()
  const signal = AbortSignal.any([leaving.signal, AbortSignal.timeout(PATIENCE_MS)])
  await fetch(url, { headers: { 'x-request-id': requestId }, signal })
    .then((response) => response.text())
    .catch(() => undefined)
}

test('captures what really failed, with the ids of its span and its line, and nothing else', async (t) => {
  const { app, collector, ingest, lineOf } = await service(t)
  defineRoutes(app)
  const origin = await originOf(app)
  const paths = ['thrown/500', 'thrown/503', 'thrown/404', 'mapped', 'bare', 'stream', 'never', 'hook', 'valid', 'none']
  for (const path of paths) await ask(`${origin}/${path}`, `id-${path}`)
  const lines = await Promise.all(paths.map((path) => lineOf(`id-${path}`)))
  await app.close()
  const seen = paths.filter((path) => ingest.events.some(({ tags }) => tags?.request_id === `id-${path}`))
  t.same(seen, ['thrown/500', 'thrown/503', 'stream', 'hook'])
  t.equal(ingest.events.length, 4)
  for (const [index, path] of paths.entries()) {
    const event = ingest.events.find(({ tags }) => tags?.request_id === `id-${path}`)
    const span = await collector.span(({ attributes }) => attributes['request.id'] === `id-${path}`)
    t.equal(lines[index]?.sentry_event_id, event?.event_id)
    const { trace_id, span_id } = event?.contexts?.trace ?? { trace_id: span.traceId, span_id: span.spanId }
    t.same([trace_id, span_id], [span.traceId, span.spanId])
    t.same([trace_id, span_id], [lines[index]?.trace_id, lines[index]?.span_id])
  }
})

test('an event names the caller, the route and what the request has logged', async (t) => {
  const { app, ingest } = await service(t, { user: (request) => ({ id: String(request.headers['x-user']) }) })
  app.get('/orders/:id', async (request) => {
    request.log.info({ order: 7 }, 'looking for the order')
    request.log.debug('not written')
    logger().warn('the cache has token=planted')
    Sentry.setTag('tenant', 'acme')
    await withSpan('query', async () => undefined)
    throw new TypeError('boom', { cause: new Error('the cause') })
  })
  const headers = { 'x-request-id': 'r-1', 'x-correlation-id': 'c-1', 'x-user': 'u-1' }
  await app.inject({ url: '/orders/7?token=planted', headers })
  await app.close()
  const [event] = ingest.events
  t.match(event, { transaction: 'GET /orders/:id', environment: 'test', release: 'shop@1.0.0', level: 'error' })
  const tags = { tenant: 'acme', request_id: 'r-1', correlation_id: 'c-1', method: 'GET', status_code: 500 }
  t.same(event?.tags, tags)
  t.same(event?.user, { id: 'u-1' })
  t.same(event?.request, { method: 'GET', url: '/orders/7' })
  t.match(event?.exception?.values, [{ value: 'the cause' }, { type: 'TypeError', value: 'boom' }])
  const trail = event?.breadcrumbs?.map(({ category, level, message }) => [category, level, message])
  t.same(trail, [
    ['log', 'info', 'looking for the order'],
    ['log', 'warning', 'the cache has token=[redacted]']
  ])
})

test('keeps the last fifty lines of a request, and those of requests apart', async (t) => {
  const { app, ingest } = await service(t)
  app.get('/:name', async ({ log, params }) => {
    for (let index = 0; index < 60; index++) log.info(`${(params as { name: string }).name} ${index}`)
    await new Promise(setImmediate)
    throw new Error('boom')
  })
  await Promise.all(['/a', '/b'].map((url) => app.inject(url)))
  await app.close()
  for (const event of ingest.events) {
    const messages = event.breadcrumbs?.map(({ message }) => message)
    const name = event.tags?.request_id === ingest.events[0]?.tags?.request_id ? messages?.[0]?.[0] : undefined
    t.equal(messages?.length, 50)
    t.ok(messages?.every((message) => message?.startsWith(name ?? messages[0]?.[0] ?? '?')))
    t.match(messages?.[49], / 59$/)
  }
})

test('links what the application captures itself', async (t) => {
  const { app, ingest, lineOf } = await service(t)
  app.get('/handled', async () => void Sentry.captureException(new Error('handled')))
  await app.inject({ url: '/handled', headers: { 'x-request-id': 'r-1' } })
  const { trace_id, span_id } = await lineOf('r-1')
  await app.close()
  t.match(ingest.events, [
    { transaction: 'GET /handled', tags: { request_id: 'r-1' }, contexts: { trace: { trace_id, span_id } } }
  ])
})

test('leaves spans to the one tracing pipeline, and headers too', async (t) => {
  const { app, collector, ingest } = await service(t, { tracesSampleRate: 1 })
  const asked: http.IncomingHttpHeaders[] = []
  const other = createServer(({ headers }, response) => {
    asked.push(headers)
    response.end()
  }).listen(0, '127.0.0.1')
  t.teardown(() => other.close())
  await once(other, 'listening')
  const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}/`
  app.get('/', async () => {
    await fetch(url)
    await new Promise((resolve) => http.get(url, (response) => response.resume().on('end', resolve)))
  })
  await (await fetch(await originOf(app))).text()
  await app.close()
  t.equal(collector.spans.filter(({ kind }) => kind === 'SERVER').length, 1)
  t.same(ingest.items, [])
  t.equal(asked.length, 2)
  t.ok(asked.every(({ traceparent }) => traceparent !== undefined))
  t.notOk(asked.some((headers) => 'sentry-trace' in headers || 'baggage' in headers))
})

test('takes the names of secrets from the options of the logs', async (t) => {
  const { app, ingest } = await service(t, {}, { logging: { redact: ['iban'], stream: { write: () => undefined } } })
  app.get('/', async () => Promise.reject(new Error('no account with iban=DE02120300000000202051')))
  await app.inject('/')
  await app.close()
  t.equal(ingest.events[0]?.exception?.values[0]?.value, 'no account with iban=[redacted]')
})

test('shows its counts in the metrics', async (t) => {
  const { app, ingest } = await service(t, { maxEqualEventsPerMinute: 1 })
  app.get('/', async () => Promise.reject(new Error('boom')))
  await app.ready()
  for (let index = 0; index < 3; index++) await app.inject('/')
  await ingest.event(() => true)
  const { body } = await app.inject('/metrics')
  t.match(body, /^sentry_events_total [01]$/m)
  t.match(body, /^sentry_events_dropped_total\{reason="fingerprint_limit"\} 2$/m)
})
