import { execFile } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { test } from 'tap'

const run = promisify(execFile)
const { TEST_COMPOSE } = process.env
const NO_COMPOSE = !TEST_COMPOSE && 'TEST_COMPOSE names no Docker Compose'
const cwd = new URL('../', import.meta.url)
const PATHS = '--no-path-resolution'

/** What users type after `docker compose`, by the name of the file that keeps the result. */
const CONFIGURATIONS: Record<string, string[]> = {
  stack: ['-f', 'compose.yaml'],
  alerting: ['-f', 'compose.yaml', '--profile', 'alerting'],
  otlp: ['-f', 'compose.yaml', '-f', 'compose.otlp.yaml'],
  vendor: ['-f', 'compose.yaml', '-f', 'compose.vendor.yaml'],
  profiles: ['-f', 'compose.yaml', '-f', 'compose.profiles.yaml'],
  'otlp-vendor': ['-f', 'compose.yaml', '-f', 'compose.otlp.yaml', '-f', 'compose.vendor.yaml'],
  lgtm: ['-f', 'compose.lgtm.yaml']
}
const VENDOR = { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://otlp.example.com' }

function config(args: string[], env: Record<string, string>) {
  return run(String(TEST_COMPOSE), [...args, 'config', PATHS], { cwd, env })
}

for (const [name, args] of Object.entries(CONFIGURATIONS)) {
  test(`has Compose read ${args.join(' ')} as it is kept, without a warning`, { skip: NO_COMPOSE }, async (t) => {
    const { stdout, stderr } = await config(args, VENDOR)
    const kept = readFileSync(new URL(`test/configurations/${name}.yaml`, cwd), 'utf8')
    const command = `cd docker && OTEL_EXPORTER_OTLP_ENDPOINT=${VENDOR.OTEL_EXPORTER_OTLP_ENDPOINT} $TEST_COMPOSE ${args.join(' ')} config ${PATHS}`
    t.equal(stdout, kept, `${command} > test/configurations/${name}.yaml keeps it`)
    t.equal(stderr, '')
  })
}

test('keeps a result for every Compose file', async (t) => {
  const read = new Set(Object.values(CONFIGURATIONS).flat())
  t.same(
    globSync('compose*.yaml', { cwd }).filter((file) => !read.has(file)),
    []
  )
})

test('has a variable for each port', { skip: NO_COMPOSE }, async (t) => {
  const variables = [
    'ORDERS',
    'PAYMENTS',
    'COLLECTOR',
    'COLLECTOR_HTTP',
    'JAEGER',
    'PROMETHEUS',
    'GRAFANA',
    'ALERTMANAGER',
    'PYROSCOPE'
  ]
  const env = Object.fromEntries(variables.map((name, index) => [`${name}_PORT`, String(20_000 + index)]))
  const { stdout } = await config(['-f', 'compose.yaml', '-f', 'compose.profiles.yaml', '--profile', '*'], env)
  const published = [...stdout.matchAll(/published: "(\d+)"/g)].map(([, port]) => port)
  t.same(published.sort(), Object.values(env))
})

test('refuses to forward to a vendor without an address', { skip: NO_COMPOSE }, async (t) => {
  const refused = await config(['-f', 'compose.yaml', '-f', 'compose.vendor.yaml'], {}).catch((error) => error)
  t.match(refused.stderr, 'OTEL_EXPORTER_OTLP_ENDPOINT is missing a value: is where the vendor takes OTLP over HTTP')
})
