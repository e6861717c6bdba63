import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
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
  const { child, origin, lines, line, ended } = await start(t, { SHUTDOWN: '{"delayMs":1000}' })
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
  t.ok(Number(last?.duration_ms) < 3_000, `${last?.duration_ms} ms`)
})

test('the apps of a process end together: none aborts the requests of another', async (t) => {
  const { child, lines, ended } = await start(t, { SHUTDOWN: '{"delayMs":50}' }, 'two-apps.ts')
  const slow = lines.find(({ msg }) => msg.startsWith('slow at '))?.msg.slice('slow at '.length)
  const answer = fetch(`${slow}/`)
  await setTimeout(100)
  child.kill('SIGTERM')
  t.equal((await answer).status, 200)
  t.equal(await ended, 0)
  t.equal(lines.filter(({ msg }) => msg === 'shutdown finished').length, 2)
})

test('ends with code 1 where one of the apps could not close, when all have', async (t) => {
  const { child, lines, ended } = await start(t, { SHUTDOWN: '{"delayMs":50}', FAILING: 'true' }, 'two-apps.ts')
  child.kill('SIGINT')
  t.equal(await ended, 1)
  const messages = lines.map(({ msg }) => msg).filter((message) => message.startsWith('shutdown finished'))
  t.same(messages.sort(), ['shutdown finished', 'shutdown finished with errors'])
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

test('ends in time while no destination is reachable, and logs what was lost', async (t) => {
  const nowhere = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', SENTRY_DSN: 'http://key@127.0.0.1:1/1' }
  const { child, origin, lines, ended } = await start(t, { ...nowhere, SHUTDOWN: '{"delayMs":0}' })
  await answers(`${origin}/orders/7`)
  const startedAt = performance.now()
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.ok(performance.now() - startedAt < 10_000 + STARVED_MS)
  t.equal(lines.at(-1)?.msg, 'shutdown finished')
  t.match(Object.entries(lines.at(-1)?.dropped ?? {}), [[/^otel_sdk_exporter_span_exported_total\{\w+\}$/, 1]])
})

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

test('does not wait for load balancers where nobody has asked for readiness', async (t) => {
  const { child, origin, lines, ended } = await start(t, { SHUTDOWN: 'true' })
  t.equal((await fetch(`${origin}/orders/7`)).status, 200)
  child.kill('SIGINT')
  t.equal(await ended, 0)
  t.match(
    lines.find(({ msg }) => msg === 'shutting down'),
    { delay_ms: 0 }
  )
  t.ok(Number(lines.at(-1)?.duration_ms) < 1_000, `${lines.at(-1)?.duration_ms} ms`)
})

test('waits for load balancers from the first time that readiness was asked for', async (t) => {
  const { child, origin, line } = await start(t, { SHUTDOWN: 'true' })
  t.equal(await statusOf(`${origin}/health/ready`), 200)
  child.kill('SIGTERM')
  t.match(await line('shutting down'), { delay_ms: 5_000 })
})

test('does not wait for load balancers in a terminal', async (t) => {
  const terminal = [process.execPath, '--import', 'data:text/javascript,process.stdout.isTTY = true']
  const { child, origin, line, ended } = await start(t, { SHUTDOWN: 'true' }, 'ending.ts', terminal)
  t.equal(await statusOf(`${origin}/health/ready`), 200)
  child.kill('SIGINT')
  t.match(await line('shutting down'), { delay_ms: 0 })
  t.equal(await ended, 0)
})
