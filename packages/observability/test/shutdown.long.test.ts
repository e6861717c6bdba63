import { STARVED_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { answers, start, statusOf } from './process.ts'

test('the apps of a process end together: none aborts the requests of another', async (t) => {
  const { child, lines, line, ended } = await start(t, { SHUTDOWN: '{"delayMs":50}' }, 'two-apps.ts')
  const slow = lines.find(({ msg }) => msg.startsWith('slow at '))?.msg.slice('slow at '.length)
  const answer = fetch(`${slow}/`)
  await line('asked')
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

test('does not wait for load balancers where nobody has asked for readiness', async (t) => {
  const { child, origin, lines, ended } = await start(t, { SHUTDOWN: 'true' })
  t.equal((await fetch(`${origin}/orders/7`)).status, 200)
  child.kill('SIGINT')
  t.equal(await ended, 0)
  t.match(
    lines.find(({ msg }) => msg === 'shutting down'),
    { delay_ms: 0 }
  )
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
