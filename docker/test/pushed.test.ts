import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePorts } from '@fastify-observability/testing/ports'
import tap, { test } from 'tap'
import { type Program, startProgram } from '../native/program.ts'
import { askPrometheus } from '../native/prometheus.ts'

const { TEST_COLLECTOR = '', TEST_PROMETHEUS_3 = '' } = process.env
const skip = !(TEST_COLLECTOR && TEST_PROMETHEUS_3) && 'TEST_COLLECTOR or TEST_PROMETHEUS_3 names no program'
const docker = (file: string) => fileURLToPath(new URL(`../${file}`, import.meta.url))
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const programs: Program[] = []
tap.setTimeout(120_000)
tap.teardown(async () => {
  for (const program of programs) await program.stop()
})

/** A collector as in compose.yaml, and the Prometheus of compose.otlp.yaml behind it. */
async function start(folder: string) {
  const [http, grpc, health, metrics, prometheus] = (await freePorts(5)).map((port) => `127.0.0.1:${port}`)
  const answers = async (url: string) => (await fetch(url).catch(() => undefined))?.ok === true
  const run = async (name: string, command: string, args: string[], ready: string, env = {}) => {
    const logFile = join(folder, `${name}.log`)
    programs.unshift(await startProgram({ name, command, args, logFile, isReady: () => answers(ready), env }))
  }
  const places = [`--storage.tsdb.path=${folder}/data`, `--web.listen-address=${prometheus}`]
  const flags = ['--enable-feature=exemplar-storage', '--web.enable-otlp-receiver']
  const file = `--config.file=${docker('prometheus/prometheus.otlp.yaml')}`
  await run('prometheus', TEST_PROMETHEUS_3, [file, ...places, ...flags], `http://${prometheus}/-/ready`)
  const layers = ['collector.yaml', 'collector.grafana.yaml'].map((file) => `--config=${docker(file)}`)
  await run('collector', TEST_COLLECTOR, layers, `http://${health}`, {
    COLLECTOR_OTLP_HTTP: http,
    COLLECTOR_OTLP_GRPC: grpc,
    COLLECTOR_HEALTH: health,
    COLLECTOR_METRICS_PORT: metrics?.split(':')[1],
    COLLECTOR_QUEUE: folder,
    PROMETHEUS_OTLP_HTTP: `http://${prometheus}/api/v1/otlp`
  })
  return { otlp: `http://${http}/v1/metrics`, prometheus: askPrometheus(`http://${prometheus}`) }
}

/** What a service pushes after one request. */
function pushed() {
  const text = (key: string, stringValue: string) => ({ key, value: { stringValue } })
  const timeUnixNano = String(BigInt(Date.now()) * 1_000_000n)
  const exemplars = [{ timeUnixNano, asDouble: 0.02, traceId: TRACE_ID, spanId: '00f067aa0ba902b7' }]
  const attributes = [
    text('http.request.method', 'GET'),
    text('http.route', '/orders'),
    text('http.response.status_code', '200')
  ]
  const point = { timeUnixNano, startTimeUnixNano: timeUnixNano, attributes, exemplars }
  const dataPoints = [{ ...point, count: '1', sum: 0.02, bucketCounts: ['1', '0'], explicitBounds: [0.5] }]
  const duration = {
    name: 'http.server.request.duration',
    unit: 's',
    histogram: { aggregationTemporality: 2, dataPoints }
  }
  const lines = [{ timeUnixNano, attributes: [text('level', 'info')], asDouble: 3 }]
  const total = { name: 'log_lines_total', sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: lines } }
  const resource = {
    attributes: [text('service.name', 'orders'), text('service.instance.id', 'a'), text('service.version', '1.0.0')]
  }
  return { resourceMetrics: [{ resource, scopeMetrics: [{ scope: { name: 'test' }, metrics: [duration, total] }] }] }
}

test('has pushed metrics arrive under the names and labels that dashboards and rules have', { skip }, async (t) => {
  const { otlp, prometheus } = await start(t.testdir({}))
  const headers = { 'content-type': 'application/json' }
  const until = async (expr: string) => {
    for (;;) {
      await (await fetch(otlp, { method: 'POST', headers, body: JSON.stringify(pushed()) })).text()
      const [sample] = await prometheus.query(expr)
      if (sample) return sample.metric
    }
  }
  const own = { job: 'services', service: 'orders', instance: 'a' }
  t.match(await until('http_server_request_duration_seconds_bucket{le="0.5"}'), {
    ...own,
    http_request_method: 'GET',
    http_route: '/orders',
    http_response_status_code: '200'
  })
  t.match(await until('log_lines_total'), { ...own, level: 'info' })
  t.match(await until('target_info'), { ...own, service_version: '1.0.0' })
  t.match(await until('up{job="services"} == 1'), own)
  t.ok((await prometheus.exemplars('http_server_request_duration_seconds_bucket')).includes(TRACE_ID))
})
