import { withEnv } from '@fastify-observability/testing/environment'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions, type Report, type TracingOptions } from '../src/index.ts'

async function reportOf(t: Test, options: ObservabilityOptions): Promise<Report> {
  const app = Fastify()
  await app.register(observability, { service: { name: 'orders', version: '1.4.0' }, ...options })
  t.teardown(() => app.close())
  return app.observability.report()
}

const stream = { write: (): void => undefined }

test('says where each signal goes without options, and what would send it further', async (t) => {
  const { service, ...signals } = await reportOf(t, { logging: { level: 'silent' } })
  t.match(service, { name: 'orders', version: '1.4.0' })
  t.same(signals, {
    lines: { to: ['standard output'], hint: 'OTEL_LOGS_EXPORTER=otlp sends lines over OTLP too' },
    spans: { to: [], hint: 'OTEL_EXPORTER_OTLP_ENDPOINT, or the option tracing.endpoint, exports spans' },
    points: { to: ['/metrics'], hint: 'OTEL_METRICS_EXPORTER=otlp pushes points over OTLP too' },
    events: { to: [], hint: 'SENTRY_DSN, or the option sentry.dsn, sends error events; they need @sentry/node' },
    dropped: {}
  })
})

test('names endpoints without their secrets', async (t) => {
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = 'http://me:hunter2@localhost:4317/?token=hunter2'
  const report = await reportOf(t, {
    logging: { stream, otlp: true },
    tracing: { shutdownTimeoutMs: 100 },
    metrics: { otlp: true, path: '/numbers' },
    sentry: { dsn: 'http://hunter2@localhost:9/1' }
  })
  Reflect.deleteProperty(process.env, 'OTEL_EXPORTER_OTLP_ENDPOINT')
  t.same(report.lines.to, ["the application's stream", 'http://localhost:4317'])
  t.match(report.spans.to, [/localhost:4317/])
  t.match(report.points.to, ['/numbers', /localhost:4317/])
  t.same(report.events.to, ['localhost:9'])
  t.notMatch(JSON.stringify(report), 'hunter2')
})

class Recorder {
  onStart(): void {}
  onEnd(): void {}
  async forceFlush(): Promise<void> {}
  async shutdown(): Promise<void> {}
}
const { onStart, onEnd, forceFlush, shutdown } = Recorder.prototype
const plain = { onStart, onEnd, forceFlush, shutdown }

const DESTINATIONS: [string[], TracingOptions][] = [
  [['standard error'], { console: true }],
  [["the application's Recorder"], { spanProcessors: [new Recorder()] }],
  [['standard error', "the application's span processor"], { console: true, spanProcessors: [plain] }]
]
for (const [to, tracing] of DESTINATIONS) {
  test(`says that spans go to ${to.join(' and ')}, and not that there is no endpoint`, async (t) => {
    const lines: string[] = []
    const logging = { stream: { write: (line: string) => void lines.push(line) } }
    const { spans } = await reportOf(t, { logging, tracing })
    t.same(spans, { to, hint: undefined })
    t.match(lines.join(''), `tracing: spans go to ${to.join(', ')}`)
    t.notMatch(lines.join(''), 'no OTLP endpoint')
  })
}

test('says that spans go nowhere by OTEL_TRACES_EXPORTER where it does not name otlp', async (t) => {
  withEnv(t, { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4317' })
  const lines: string[] = []
  const { spans } = await reportOf(t, { logging: { stream: { write: (line) => void lines.push(line) } } })
  t.same(spans, { to: [], hint: 'OTEL_TRACES_EXPORTER does not name otlp' })
  t.match(lines.join(''), 'tracing: OTEL_TRACES_EXPORTER does not name otlp, spans are not exported')
})

test('says what the options have switched off', async (t) => {
  const { lines, spans } = await reportOf(t, { logging: false, tracing: false })
  t.same(lines, { to: [], hint: 'the option logging is false' })
  t.same(spans, { to: [], hint: 'the option tracing is false' })
})

test('logs once where each signal goes when the app listens', async (t) => {
  const lines: string[] = []
  const app = Fastify()
  await app.register(observability, { logging: { stream: { write: (line) => void lines.push(line) }, format: 'json' } })
  t.teardown(() => app.close())
  await app.ready()
  t.notOk(lines.some((line) => line.includes('"msg":"telemetry"')))
  await app.listen({ port: 0 })
  const [line = '{}', ...more] = lines.filter((line) => line.includes('"msg":"telemetry"'))
  t.match(JSON.parse(line), { level: 'info', telemetry: { spans: { to: [] }, points: { to: ['/metrics'] } } })
  t.same(more, [])
})
