import { setTimeout as wait } from 'node:timers/promises'
import underPressure from '@fastify/under-pressure'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, { currentObservation, type ObservabilityOptions } from '../src/index.ts'
import { observe } from '../src/testing.ts'

/** A service with all signals, and what they have of its requests. */
async function signals(t: Test, options: ObservabilityOptions, serve: (app: FastifyInstance) => Promise<unknown>) {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, { logging: { stream: { write: () => undefined } }, ...options })
  const seen = await observe(app, { timeoutMs: PATIENCE_MS })
  await serve(app)
  const { metrics, spans } = await seen.request({ route: '/' })
  await app.close()
  const lines = seen.lines.filter(({ route }) => route === '/')
  return { lines, spans, events: seen.events, duration: metrics?.http_server_request_duration_seconds }
}

test('has the error that the application reports in line, span, metric and event', async (t) => {
  const { lines, spans, events, duration } = await signals(t, {}, async (app) => {
    app.get('/', async (_request, reply) => {
      currentObservation()?.fail(new RangeError('answered by a framework'))
      return reply.code(500).send('sorry')
    })
    await app.inject('/')
  })
  t.match(lines, [
    { level: 'error', status_code: 500, err: { type: 'RangeError', message: 'answered by a framework' } }
  ])
  const [span] = spans.filter(({ kind }) => kind === 'server')
  t.match(JSON.stringify(span), /RangeError.*answered by a framework/)
  t.match(duration, { value: 1, labels: { error_type: 'RangeError' } })
  t.match(events, [{ exception: { values: [{ type: 'RangeError' }] } }])
})

for (const [status, failed] of [
  [200, true],
  [302, true],
  [404, false]
] as const) {
  test(`all signals ${failed ? 'fail' : 'stay fine'} when the application reports an error and answers ${status}`, async (t) => {
    const { lines, spans, events, duration } = await signals(t, {}, async (app) => {
      app.get('/', async (request, reply) => {
        request.observation.fail(new RangeError('of a resolver'))
        return reply.code(status).send()
      })
      await app.inject('/')
    })
    const err = { type: 'RangeError', message: 'of a resolver' }
    t.match(lines, [{ level: failed ? 'error' : 'warn', status_code: status, err }])
    const span = spans.find(({ kind }) => kind === 'server')
    t.match([span?.status, span?.attributes['error.type']], failed ? ['error', 'RangeError'] : ['unset', undefined])
    t.equal(span?.events.filter(({ name }) => name === 'exception').length, failed ? 1 : 0)
    t.match(duration?.labels, { http_response_status_code: `${status}`, error_type: failed ? 'RangeError' : '' })
    t.equal(events.length, failed ? 1 : 0)
  })
}

test('takes what an @fastify/under-pressure of the application sheds for the same', async (t) => {
  const { lines, events } = await signals(t, {}, async (app) => {
    await app.register(underPressure, { maxRssBytes: 1, sampleInterval: 10 })
    app.get('/', async () => 'ok')
    await app.ready()
    while (!app.isUnderPressure()) await wait(10)
    t.equal((await app.inject('/')).statusCode, 503)
  })
  t.match(lines, [{ level: 'warn', status_code: 503, err: { code: 'FST_UNDER_PRESSURE' } }])
  t.notMatch(JSON.stringify(lines), 'stack')
  t.same(events, [])
})

test('a 503 that the application throws stays an error, with its stack and an event', async (t) => {
  const { lines, events } = await signals(t, { health: { pressure: 'both' } }, async (app) => {
    app.get('/', async () => Promise.reject(Object.assign(new Error('no seat left'), { statusCode: 503 })))
    t.equal((await app.inject('/')).statusCode, 503)
  })
  t.match(lines, [{ level: 'error', status_code: 503, err: { message: 'no seat left', stack: /errors\.test/ } }])
  t.equal(events.length, 1)
})

test('logs a shed request as one warning without a stack, and sends no event', async (t) => {
  const { lines, events } = await signals(t, { health: { pressure: { maxRssBytes: 1 } } }, async (app) => {
    app.get('/', async () => 'ok')
    await app.ready()
    while (!app.isUnderPressure()) await wait(10)
    for (let requests = 0; requests < 3; requests++) t.equal((await app.inject('/')).statusCode, 503)
  })
  t.equal(lines.length, 3)
  for (const line of lines) t.match(line, { level: 'warn', status_code: 503, err: { code: 'FST_UNDER_PRESSURE' } })
  t.notMatch(JSON.stringify(lines), 'stack')
  t.same(events, [])
})
