import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePorts } from '@fastify-observability/testing/ports'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import observability from 'fastify-observability'
import tap, { type Test, test } from 'tap'
import { type Program, startProgram } from '../native/program.ts'
import { askPrometheus } from '../native/prometheus.ts'

const { TEST_COLLECTOR = '', TEST_PROMETHEUS_3 = '' } = process.env
const skip = !(TEST_COLLECTOR && TEST_PROMETHEUS_3) && 'TEST_COLLECTOR or TEST_PROMETHEUS_3 names no program'
const docker = (file: string) => fileURLToPath(new URL(`../${file}`, import.meta.url))
const POLL_MS = 50
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const programs: Program[] = []
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
  return { otlp: `http://${grpc}`, prometheus: askPrometheus(`http://${prometheus}`) }
}

/** A service that pushes, with a request of the trace behind it. */
async function serve(t: Test, endpoint: string): Promise<FastifyInstance> {
  const variables = {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_METRICS_EXPORTER: 'otlp',
    OTEL_METRIC_EXPORT_INTERVAL: '200',
    OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=a'
  }
  Object.assign(process.env, variables)
  const app = Fastify()
  t.teardown(async () => {
    for (const name of Object.keys(variables)) delete process.env[name]
    await app.close()
  })
  const service = { name: 'orders', version: '1.0.0' }
  await app.register(observability, { service, logging: { stream: { write() {} } }, tracing: { trustInbound: true } })
  app.get('/orders', async () => 'four')
  await app.inject({ url: '/orders', headers: { traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01` } })
  return app
}

test('has pushed metrics arrive under the names and labels that dashboards and rules have', { skip }, async (t) => {
  const { otlp, prometheus } = await start(t.testdir({}))
  const app = await serve(t, otlp)
  const until = async (expr: string) => {
    for (;;) {
      const [sample] = await prometheus.query(expr)
      if (sample) return sample.metric
      await sleep(POLL_MS)
    }
  }
  const own = { job: 'services', service: 'orders', instance: 'a' }
  t.match(await until('http_server_request_duration_seconds_bucket{le="0.5", http_route="/orders"}'), {
    ...own,
    http_request_method: 'GET',
    http_response_status_code: '200'
  })
  t.match(await until('log_lines_total{level="info"}'), own)
  t.match(await until('target_info'), { ...own, service_version: '1.0.0' })
  t.match(await until('up{job="services"} == 1'), own)
  t.ok((await prometheus.exemplars('http_server_request_duration_seconds_bucket')).includes(TRACE_ID))
  const { body } = await app.inject('/metrics')
  const shown = Array.from(body.matchAll(/^([a-z]\w*)[{ ]/gm), ([, name]) => name)
  // A series may be younger than the last push, as one is after the first major collection of garbage.
  const deadline = performance.now() + PATIENCE_MS
  let missing = shown
  while (missing.length > 0 && performance.now() < deadline) {
    const series = new Set((await prometheus.query('count by (__name__) ({job="services"})')).map(nameOf))
    missing = shown.filter((name) => !series.has(name))
  }
  t.same(missing, [])
})

function nameOf({ metric }: { metric: Record<string, string> }): string | undefined {
  return metric.__name__
}
