import { watch } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { mock } from 'node:test'
import { type CollectorOptions, startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import sinon from 'sinon'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions } from '../src/index.ts'
import { start } from './process.ts'

const SOON = { OTEL_BSP_SCHEDULE_DELAY: '20', OTEL_BLRP_SCHEDULE_DELAY: '20', OTEL_METRIC_EXPORT_INTERVAL: '20' }
// What Fastify itself needs, and gRPC.
const CLOCKS = {
  'node:test': () => mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] }),
  sinon: () => sinon.useFakeTimers({ toNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] })
}

/** A service with everything on, whose clock stands still once it is asked. */
async function service(t: Test, freeze: () => void, receiver: CollectorOptions, options: ObservabilityOptions = {}) {
  const [collector, ingest] = await Promise.all([startCollector(receiver), startIngest()])
  withEnv(t, { ...SOON, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
  withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: receiver.protocol ?? 'grpc', SENTRY_DSN: ingest.dsn })
  const app = Fastify()
  t.teardown(async () => {
    mock.timers.reset()
    sinon.restore()
    await app.close()
    await Promise.all([collector.close(), ingest.close()])
  })
  const logging = { stream: { write: () => undefined }, otlp: true, ...Object(options.logging) }
  await app.register(observability, { metrics: { otlp: true }, ...options, logging })
  app.get('/', async () => Promise.reject(new Error('boom')))
  await app.ready()
  freeze()
  t.equal((await app.inject('/')).statusCode, 500)
  return { app, collector, ingest }
}

async function isWritten(folder: string, text: string): Promise<void> {
  const changes = watch(folder, { persistent: true })
  const file = join(folder, 'app.log')
  await new Promise<void>((resolve) => {
    const look = async () => (await readFile(file, 'utf8').catch(() => '')).includes(text) && resolve()
    changes.on('change', look)
    void look()
  })
  changes.close()
}

for (const [clock, freeze] of Object.entries(CLOCKS)) {
  for (const protocol of ['grpc', 'http/protobuf'] as const) {
    test(`delivers spans, lines, points and events by itself, and closes, over ${protocol} under ${clock}`, async (t) => {
      const { app, collector, ingest } = await service(t, freeze, { protocol })
      await Promise.all([
        collector.span(({ name }) => name === 'GET /'),
        collector.called(1, 'logs'),
        collector.called(2, 'metrics'),
        ingest.event(() => true)
      ])
      await app.close()
    })
  }

  test(`writes lines to a file by itself, and closes it, under ${clock}`, async (t) => {
    const folder = t.testdir()
    const logging = { file: { path: join(folder, 'app.log'), maxSize: '1KB' }, otlp: false }
    const { app } = await service(t, freeze, {}, { logging })
    await isWritten(folder, '"msg":"request completed"')
    app.log.info({ filling: 'x'.repeat(2_000) }, 'the file is full')
    app.log.info('after the rotation')
    await isWritten(folder, '"msg":"after the rotation"')
    await app.close()
  })

  test(`closes in time while neither collector nor Sentry answers under ${clock}`, async (t) => {
    const { app, ingest } = await service(t, freeze, { answer: () => 'never' }, { tracing: { shutdownTimeoutMs: 200 } })
    ingest.answer = 'hang'
    app.log.error('one more')
    await app.close()
    t.pass('it has closed')
  })

  test(`closes in time while a job never ends under ${clock}`, async (t) => {
    const { app } = await service(t, freeze, {}, { health: { shutdown: { timeoutMs: 50, signals: [] } } })
    void app.observability.observe('hung', () => new Promise(() => undefined))
    await app.close()
    t.pass('it has closed')
  })

  test(`answers probes, their checks included, under ${clock}`, async (t) => {
    const checks = { hung: { check: () => new Promise(() => undefined), timeoutMs: 20 }, well: () => 'ok' }
    const { app } = await service(t, freeze, {}, { health: { checks, pressure: 'both' } })
    t.match((await app.inject('/health/ready')).json(), { checks: { hung: 'failed', well: 'ok' } })
    t.equal((await app.inject('/metrics')).statusCode, 200)
  })

  test(`lines come out on standard output by themselves, and a signal ends the process, under ${clock}`, async (t) => {
    const { child, origin, line, ended } = await start(t, { CLOCK: clock }, 'frozen-clock.ts')
    t.equal(await (await fetch(origin)).text(), 'found')
    await line('request completed')
    child.kill('SIGTERM')
    t.equal(await ended, null)
    t.equal(child.signalCode, 'SIGTERM')
  })
}
