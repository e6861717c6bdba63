import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { test } from 'tap'

const run = promisify(execFile)
const { TEST_COLLECTOR, TEST_JAEGER } = process.env
const NO_COLLECTOR = !TEST_COLLECTOR && 'TEST_COLLECTOR names no OpenTelemetry Collector'
const NO_JAEGER = !TEST_JAEGER && 'TEST_JAEGER names no Jaeger'
const cwd = new URL('../', import.meta.url)

const CONFIGURATIONS: [string, string[]][] = [
  ['one machine', ['collector.yaml']],
  ['a machine without Docker', ['collector.yaml', 'collector.native.yaml']],
  ['the stack with Grafana', ['collector.yaml', 'collector.grafana.yaml']],
  ['a gateway of several replicas', ['collector.yaml', 'collector.grafana.yaml', 'collector.gateway.yaml']],
  ['the stack with a vendor', ['collector.yaml', 'collector.grafana.yaml', 'collector.vendor.yaml']],
  ['one machine with a vendor', ['collector.yaml', 'collector.vendor.yaml']]
]

for (const [purpose, files] of CONFIGURATIONS) {
  test(`has a configuration of the collector for ${purpose}`, { skip: NO_COLLECTOR }, async (t) => {
    const env = { COLLECTOR_QUEUE: t.testdir({}), OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otlp.example.com' }
    await t.resolves(
      run(String(TEST_COLLECTOR), ['validate', ...files.map((file) => `--config=${file}`)], { cwd, env })
    )
  })
}

test('has the validation of the collector find a mistake', { skip: NO_COLLECTOR }, async (t) => {
  const mistake = '--config=yaml:service::pipelines::traces::exporters: [nowhere]'
  const args = ['validate', '--config=collector.yaml', mistake]
  const failed = await run(String(TEST_COLLECTOR), args, { cwd }).catch((error) => error)
  t.match(failed.stderr, 'nowhere')
})

test('has a configuration that Jaeger takes', { skip: NO_JAEGER }, async (t) => {
  await t.resolves(run(String(TEST_JAEGER), ['validate', '--config=jaeger.yaml'], { cwd }))
})
