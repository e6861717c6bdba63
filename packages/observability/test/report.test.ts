import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions, type Report } from '../src/index.ts'

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
  t.same(report.lines.to, ["the application's stream", 'OTLP'])
  t.match(report.spans.to, [/localhost:4317/])
  t.match(report.points.to, ['/numbers', /localhost:4317/])
  t.same(report.events.to, ['localhost:9'])
  t.notMatch(JSON.stringify(report), 'hunter2')
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
