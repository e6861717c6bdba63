import { mock } from 'node:test'
import { startCollector } from '@fastify-observability/testing/collector'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'

const { now } = performance

async function service(t: Test) {
  const collector = await startCollector()
  const lines: Record<string, unknown>[] = []
  const app = Fastify()
  t.teardown(async () => {
    Object.assign(performance, { now })
    mock.timers.reset()
    await app.close()
    await collector.close()
  })
  await app.register(observability, {
    logging: { stream: { write: (line) => void lines.push(JSON.parse(line)) } },
    tracing: { endpoint: collector.url }
  })
  return { app, collector, lines }
}

test('sends no negative server-timing when the clock of a test goes back or reads no number', async (t) => {
  const { app } = await service(t)
  app.get('/:ms', async (request) => void Object.assign(performance, { now: () => Number(Object(request.params).ms) }))
  for (const ms of ['0', '-7', 'none']) {
    const { headers } = await app.inject(`/${ms}`)
    Object.assign(performance, { now })
    t.match(headers['server-timing'], /^total;dur=0\.0, /)
  }
})

test('measures no negative time by such a clock: line, span, its first byte, request metrics, timers', async (t) => {
  const { app, collector, lines } = await service(t)
  const work = app.metrics.histogram({ name: 'work_seconds', help: 'Work.' })
  app.get('/', async () => app.metrics.time(work, {}, () => void Object.assign(performance, { now: () => 0 })))
  await app.inject('/')
  Object.assign(performance, { now })
  const { body } = await app.inject('/metrics')
  await app.close()
  t.match(lines.at(-1), { msg: 'request completed', duration_ms: 0, ttfb_ms: 0 })
  t.match(body, /^http_server_request_duration_seconds_sum\{.*http_route="\/".*\} 0$/m)
  t.match(body, /^http_server_time_to_first_byte_seconds_sum\{.*http_route="\/".*\} 0$/m)
  t.match(body, /^work_seconds_sum 0$/m)
  t.same(
    collector.spans.map(({ durationMs }) => durationMs),
    [0]
  )
})

const ASKED = ['/', '/metrics', '/health/ready']

test('answers, scrapes, delivers and closes while the timers and the date of a test stand still', async (t) => {
  const { app, collector, lines } = await service(t)
  app.get('/', async () => 'found')
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] })
  for (const url of ASKED) t.equal((await app.inject(url)).statusCode, 200)
  await app.close()
  t.equal(lines.at(-1)?.time, '1970-01-01T00:00:00.000Z')
  t.equal(collector.spans.length, 1)
})

test('closes by its deadline when immediates stand still too, without which gRPC sends nothing', async (t) => {
  const { app, collector, lines } = await service(t)
  app.get('/', async () => 'found')
  mock.timers.enable()
  for (const url of ASKED) t.equal((await app.inject(url)).statusCode, 200)
  await app.close()
  t.equal(collector.spans.length, 0)
  t.match(lines.at(-1), { level: 'warn' })
})
