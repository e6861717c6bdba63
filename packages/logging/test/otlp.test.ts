import { registryOf } from '@fastify-observability/observation/internal'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { context, ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import logging, { type LoggingOptions } from '../src/index.ts'

const service = { name: 'shop', version: '1.2.3', environment: 'test' }

/** An app whose lines go to a collector, and what its own stream has. */
async function logged(t: Test, env: Record<string, string>, options: LoggingOptions = {}) {
  const collector = await startCollector()
  withEnv(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env })
  t.teardown(() => collector.close())
  const lines: string[] = []
  const app = Fastify()
  await app.register(logging, { service, stream: { write: (line) => void lines.push(line) }, ...options })
  return { app, collector, lines }
}

test('names its own scope and version, and what the environment says of the resource', async (t) => {
  const { app, collector } = await logged(t, { OTEL_RESOURCE_ATTRIBUTES: 'team=books' }, { otlp: true })
  app.log.info('here')
  await registryOf(app).flush(PATIENCE_MS)
  await app.close()
  t.match(collector.logs, [
    {
      scope: { name: '@fastify-observability/logging', version: /^\d+\.\d+\.\d+/ },
      resource: {
        team: 'books',
        'service.name': 'shop',
        'telemetry.sdk.language': 'nodejs',
        'process.pid': process.pid
      }
    }
  ])
})

test('gives an error as exception.type, exception.message and exception.stacktrace', async (t) => {
  const { app, collector } = await logged(t, {}, { otlp: true })
  app.log.error(new RangeError('too far', { cause: new Error('wind') }))
  await registryOf(app).flush(PATIENCE_MS)
  await app.close()
  t.match(collector.logs[0]?.attributes, {
    'exception.type': 'RangeError',
    'exception.message': 'too far',
    'exception.stacktrace': /^RangeError: too far\n/,
    err: { cause: { message: 'wind' } }
  })
})

for (const traceFlags of [0, 1]) {
  test(`gives trace flags ${traceFlags} to a line of a span that has them`, async (t) => {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
    t.teardown(() => context.disable())
    const { app, collector } = await logged(t, {}, { otlp: true })
    const spanContext = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags }
    context.with(trace.setSpanContext(ROOT_CONTEXT, spanContext), () => app.log.info('inside'))
    await registryOf(app).flush(PATIENCE_MS)
    await app.close()
    t.match(collector.logs, [spanContext])
  })
}

for (const [list, sent] of [
  ['otlp', 1],
  ['OTLP', 1],
  [' console , otlp', 1],
  ['none', 0],
  ['console', 0]
] as const) {
  test(`sends ${sent ? 'lines' : 'nothing'} with OTEL_LOGS_EXPORTER "${list}"`, async (t) => {
    const { app, collector, lines } = await logged(t, { OTEL_LOGS_EXPORTER: list })
    app.log.info('here')
    await registryOf(app).flush(PATIENCE_MS)
    await app.close()
    t.equal(collector.logs.length, sent)
    t.equal(lines.length, 1)
  })
}

test('names an exporter of logs that it does not know, and goes on', async (t) => {
  const { app, collector, lines } = await logged(t, { OTEL_LOGS_EXPORTER: 'zipkin,otlp' })
  await registryOf(app).flush(PATIENCE_MS)
  await app.close()
  const msg = /OTEL_LOGS_EXPORTER must be a list of otlp, console, none, '.*' is ignored$/
  t.match(JSON.parse(lines[0] ?? ''), { level: 'warn', msg })
  t.equal(collector.logs.length, 1)
})

test('sends nothing when OTEL_SDK_DISABLED is true', async (t) => {
  const { app, collector } = await logged(t, { OTEL_SDK_DISABLED: 'True' }, { otlp: true })
  app.log.info('here')
  await app.close()
  t.equal(collector.logs.length, 0)
})
