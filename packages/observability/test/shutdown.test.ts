import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { answers, start, statusOf } from './process.ts'

test('aborts a request that never ends at the deadline, and names it in the last line', async (t) => {
  const { child, origin, lines, ended } = await start(t, { SHUTDOWN: '{"delayMs":50,"timeoutMs":300}' })
  const hung = statusOf(`${origin}/hang?token=secret`, new Agent({ keepAlive: true })).catch(({ code }) => code)
  await answers(`${origin}/orders/7`)
  const startedAt = performance.now()
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.ok(performance.now() - startedAt < STARVED_MS)
  t.equal(await hung, 'ECONNRESET')
  t.match(
    lines.slice(-4).map(({ msg }) => msg),
    ['shutting down', 'request aborted', 'the database is closed', 'shutdown finished']
  )
  t.match(lines.at(-1), {
    aborted_count: 1,
    aborted_requests: [{ method: 'GET', route: '/hang', request_id: String, duration_ms: Number }],
    dropped: {}
  })
})

test('is not ready from the signal on, goes on serving, and asks clients to close their connection', async (t) => {
  // Three requests come within the delay on a busy machine too.
  const { child, origin, lines, line, ended } = await start(t, { SHUTDOWN: '{"delayMs":8000}' })
  t.equal((await fetch(`${origin}/orders/7`)).headers.get('connection'), 'keep-alive')
  child.kill('SIGINT')
  await line('shutting down')
  const { status, headers } = await fetch(`${origin}/orders/7`)
  t.match([status, headers.get('connection')], [200, 'close'])
  t.same(await (await fetch(`${origin}/health/ready`)).json(), { status: 'not_ready', checks: {} })
  t.equal(await statusOf(`${origin}/health`), 200)
  t.equal(await ended, 0)
  t.match(lines.at(-1), { msg: 'shutdown finished', signal: 'SIGINT', duration_ms: Number })
})

test('closes a connection that was upgraded past Fastify at the deadline', async (t) => {
  const { child, origin, lines, ended } = await start(t, { SHUTDOWN: '{"delayMs":50,"timeoutMs":300}' })
  const headers = { connection: 'upgrade', upgrade: 'chat' }
  const [, socket] = await once(get(origin, { headers }), 'upgrade')
  const left = once(socket, 'close')
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  await left
  t.match(
    lines.slice(-2).map(({ msg }) => msg),
    ['the database is closed', 'shutdown finished']
  )
})

test('does not wait for a connection that never carried a request', async (t) => {
  const { child, origin, lines, ended } = await start(t, { SHUTDOWN: '{"delayMs":50}' })
  const socket = connect(Number(new URL(origin).port), '127.0.0.1')
  await once(socket, 'connect')
  await answers(`${origin}/orders/7`)
  const left = once(socket, 'close')
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  await left
  const last = lines.at(-1)
  t.match(last, { msg: 'shutdown finished', aborted_count: undefined })
  t.ok(Number(last?.duration_ms) < STARVED_MS, `${last?.duration_ms} ms`)
})

test('ends at once with code 1 on a second signal', async (t) => {
  const { child, line, ended } = await start(t, { SHUTDOWN: '{"delayMs":60000,"timeoutMs":90000}' })
  child.kill('SIGTERM')
  await line('shutting down')
  const startedAt = performance.now()
  child.kill('SIGTERM')
  t.equal(await ended, 1)
  t.ok(performance.now() - startedAt < STARVED_MS)
})

for (const [path, message] of [
  ['/throw', 'nobody catches me'],
  ['/reject', 'nobody waits for me'],
  ['/outage', 'nobody waits for us']
]) {
  test(`logs and delivers everything after ${path} before it ends with code 1`, async (t) => {
    const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
    t.teardown(() => Promise.all([collector.close(), ingest.close()]))
    const env = { SHUTDOWN: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, SENTRY_DSN: ingest.dsn }
    const { origin, lines, ended } = await start(t, env)
    const hung = statusOf(`${origin}/hang`).catch(() => undefined)
    await answers(`${origin}/orders/7`)
    const startedAt = performance.now()
    await statusOf(origin + path)
    t.equal(await ended, 1)
    await hung
    t.ok(performance.now() - startedAt < STARVED_MS)
    const fatal = lines.filter(({ level }) => level === 'fatal')
    t.match(fatal, [{ msg: 'uncaught error, the process ends', err: { type: 'TypeError', message } }])
    t.match(ingest.events, [{ exception: { values: [{ type: 'TypeError', value: message }] } }])
    const aborted = lines.filter(({ msg }) => msg === 'request aborted')
    t.match(aborted, [{ route: '/hang', err: { code: 'SHUTDOWN' } }])
    const names = collector.spans.map(({ name }) => name)
    t.same(new Set(names), new Set(['GET /orders/:id', `GET ${path}`, 'GET /hang']))
  })
}

test('writes the last line into the file too', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shutdown-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, 'service.log')
  const { child, ended } = await start(t, { SHUTDOWN: '{"delayMs":0}', LOG_FILE: file })
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  const text = await readFile(file, 'utf8')
  t.match(JSON.parse(text.trim().split('\n').at(-1) ?? '{}'), { msg: 'shutdown finished' })
})
