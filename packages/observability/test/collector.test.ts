import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type RealCollector,
  noCollector as skip,
  startRealCollector
} from '@fastify-observability/testing/real-collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'

interface Attribute {
  key: string
  value: Record<string, unknown>
}
interface Scope {
  spans?: { kind: number; traceId: string }[]
  logRecords?: { body?: { stringValue?: string } }[]
  metrics?: Metric[]
}
interface Metric {
  name: string
  sum?: { dataPoints: { asDouble?: number; asInt?: string; attributes?: Attribute[] }[] }
  histogram?: { dataPoints: { count: string; attributes?: Attribute[]; exemplars?: { traceId: string }[] }[] }
}
interface Part {
  resource: { attributes: Attribute[] }
  scopeSpans?: Scope[]
  scopeLogs?: Scope[]
  scopeMetrics?: Scope[]
}

const SERVER = 2

/** What a real collector has written of each signal. */
async function written(collector: RealCollector) {
  const requests: Record<string, Part[]>[] = (await collector.end())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const parts = (name: string): Part[] => requests.flatMap((request) => request[name] ?? [])
  const [traces, logs, metrics] = ['resourceSpans', 'resourceLogs', 'resourceMetrics'].map(parts)
  return {
    resources: [traces, logs, metrics].map((signal = []) => new Set(signal.map(({ resource }) => textOf(resource)))),
    spans: (traces ?? []).flatMap(({ scopeSpans = [] }) => scopeSpans.flatMap(({ spans = [] }) => spans)),
    records: (logs ?? []).flatMap(({ scopeLogs = [] }) => scopeLogs.flatMap(({ logRecords = [] }) => logRecords)),
    metrics: (metrics ?? []).flatMap(({ scopeMetrics = [] }) => scopeMetrics.flatMap(({ metrics = [] }) => metrics))
  }
}

function textOf({ attributes }: Part['resource']): string {
  return JSON.stringify(attributes.toSorted((one, other) => (one.key < other.key ? -1 : 1)))
}

/** The service with everything sent to a real collector. */
async function sending(t: Test, env: Record<string, string>, handle: (app: FastifyInstance) => void) {
  const collector = await startRealCollector()
  const isHttp = env.OTEL_EXPORTER_OTLP_PROTOCOL === 'http/protobuf'
  const variables: Record<string, string> = {
    OTEL_EXPORTER_OTLP_ENDPOINT: isHttp ? collector.http : collector.grpc,
    OTEL_LOGS_EXPORTER: 'otlp',
    OTEL_METRICS_EXPORTER: 'otlp',
    OTEL_RESOURCE_ATTRIBUTES: 'team=books,k8s.pod.name=shop-1',
    ...env
  }
  Object.assign(process.env, variables)
  const app = Fastify()
  t.teardown(async () => {
    for (const name of Object.keys(variables)) delete process.env[name]
    await app.close()
    await collector.close()
  })
  await app.register(observability, { service: { name: 'shop' }, logging: { stream: { write() {} } }, sentry: false })
  handle(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, collector, port: (app.server.address() as AddressInfo).port }
}

/** One request over a keep-alive connection, whatever its path and headers. */
async function ask(agent: http.Agent, port: number, path: string, headers: Record<string, string>): Promise<void> {
  const request = http.get({ agent, port, host: '127.0.0.1', path, headers })
  const [response] = await once(request, 'response')
  await once(response.resume(), 'end')
}

for (const protocol of ['grpc', 'http/protobuf']) {
  test(`loses nobody's telemetry to requests of 12 KB, over ${protocol}`, { skip }, async (t) => {
    const env = { OTEL_EXPORTER_OTLP_PROTOCOL: protocol }
    const { app, collector, port } = await sending(t, env, (app) => {
      app.get('/orders/:id', async () => 'four')
    })
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 })
    const hostile = { 'user-agent': 'u'.repeat(6_000), 'x-request-id': 'r'.repeat(128) }
    const requests = Array.from({ length: 1_200 }, (_, index) =>
      index < 300
        ? ask(agent, port, `/orders/${index}`, {})
        : ask(agent, port, `/${'p'.repeat(6_000)}${index}`, hostile)
    )
    await Promise.all(requests)
    await app.observability.flush(PATIENCE_MS)
    for (let line = 0; line < 1_000; line++) app.log.info(`long ${line} ${'x'.repeat(10_000)}`)
    agent.destroy()
    await app.observability.flush(PATIENCE_MS)
    await app.close()
    const { spans, records } = await written(collector)
    t.equal(spans.filter(({ kind }) => kind === SERVER).length, 1_200)
    t.equal(records.filter(({ body }) => body?.stringValue === 'request completed').length, 1_200)
    t.equal(records.filter(({ body }) => body?.stringValue?.startsWith('long ')).length, 1_000)
  })
}

test('has one resource for all signals, and the exemplar of a trace that was sent', { skip }, async (t) => {
  const { app, collector } = await sending(t, {}, (app) => {
    app.get('/orders/:id', async () => 'four')
  })
  await app.inject('/orders/1')
  await app.close()
  const { resources, spans, metrics } = await written(collector)
  t.same(resources[1], resources[0])
  t.same(resources[2], resources[0])
  t.match([...(resources[0] ?? [])], [/"k8s.pod.name".*"service.instance.id".*"team".*"telemetry.sdk.language"/])
  const duration = metrics.find(({ name }) => name === 'http.server.request.duration')
  const exemplars = duration?.histogram?.dataPoints.flatMap(({ exemplars = [] }) => exemplars)
  t.same(
    exemplars?.map(({ traceId }) => traceId),
    spans.map(({ traceId }) => traceId)
  )
})

/** The sum of each counter's series over all its points, as `/metrics` would name them. */
function countersOf(metrics: Metric[], perSeries: (before: number, value: number) => number): Map<string, number> {
  const counters = new Map<string, number>()
  for (const { name, sum } of metrics) {
    for (const { asDouble, asInt, attributes = [] } of sum?.dataPoints ?? []) {
      const labels = attributes.map(({ key, value }) => `${key}="${value.stringValue ?? value.intValue}"`).sort()
      const series = `${name}{${labels.join()}}`
      counters.set(series, perSeries(counters.get(series) ?? 0, asDouble ?? Number(asInt)))
    }
  }
  return counters
}

for (const [temporality, perSeries] of [
  ['cumulative', (_before: number, value: number) => value],
  ['delta', (before: number, value: number) => before + value]
] as const) {
  test(`pushes ${temporality} counters that are those of /metrics`, { skip }, async (t) => {
    const env = { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: temporality }
    const { app, collector } = await sending(t, env, (app) => {
      const orders = app.metrics.counter({ name: 'orders_total', help: 'Orders.', labelNames: ['kind'] })
      app.get('/orders/:id', async () => orders.inc({ kind: 'book' }, 0.1))
    })
    for (let push = 0; push < 4; push++) {
      for (let order = 0; order <= push; order++) await app.inject('/orders/1')
      await app.observability.flush(PATIENCE_MS)
    }
    const { body } = await app.inject('/metrics')
    await app.close()
    const pushed = countersOf((await written(collector)).metrics, perSeries)
    const series = body.matchAll(/^((?:orders|log_lines|health|metrics|request)\w*_total)(\{.*\})? (\S+)$/gm)
    const shown = Array.from(series, ([, name, labels = '{}', value]) => [`${name}${labels}`, Number(value)] as const)
    t.ok(shown.some(([name]) => name === 'orders_total{kind="book"}'))
    for (const [name, value] of shown) t.ok(Math.abs((pushed.get(name) ?? 0) - value) < 1e-9, name)
  })
}
