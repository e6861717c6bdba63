import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { createServer } from 'node:https'
import { selfSigned } from '@fastify-observability/testing/certificate'
import { withEnv } from '@fastify-observability/testing/environment'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'

const PAGE = readFileSync(new URL('../../../docs/vendors.md', import.meta.url), 'utf8')
const CERTIFICATE = selfSigned()
const BASIC = `Basic ${Buffer.from('123456:YOUR_TOKEN').toString('base64')}`
const OTLP = ['/v1/traces', '/v1/logs', '/v1/metrics']

/** The environment that the block below a heading exports. */
function environmentOf(vendor: string): Record<string, string> {
  const [, block = ''] = new RegExp(`^## ${vendor}\\n.*?\`\`\`sh\\n(.*?)\`\`\``, 'ms').exec(PAGE) ?? []
  const listed = execFileSync('bash', ['--norc', '-c', `set -e\n${block}\nenv -0`], {
    env: { PATH: process.env.PATH },
    encoding: 'utf8'
  })
  const pairs = listed
    .split('\0')
    .map((pair): [string, string] => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)])
  return Object.fromEntries(pairs.filter(([name]) => name.startsWith('OTEL_')))
}

interface Received {
  url: string | undefined
  headers: IncomingHttpHeaders
}

/** Takes whatever is posted, with TLS. */
async function startReceiver(t: Test): Promise<{ origin: string; received: Received[] }> {
  const received: Received[] = []
  const server = createServer(CERTIFICATE, ({ url, headers }, response) => {
    received.push({ url, headers })
    response.setHeader('content-type', 'application/x-protobuf').end()
  })
  t.teardown(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = server.address()
  return { origin: `https://localhost:${typeof address === 'object' ? address?.port : ''}`, received }
}

/** What a vendor receives of a service with the environment of its block, by path. */
async function receivedBy(
  t: Test,
  vendor: string,
  host: string
): Promise<Map<string | undefined, IncomingHttpHeaders>> {
  const { origin, received } = await startReceiver(t)
  const variables = Object.entries(environmentOf(vendor)).map(([name, value]) => [name, value.replace(host, origin)])
  withEnv(t, { ...Object.fromEntries(variables), OTEL_EXPORTER_OTLP_CERTIFICATE: CERTIFICATE.file })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, { service: { name: 'orders' }, logging: { stream: { write: () => true } } })
  app.get('/orders/:id', async () => 'ok')
  await app.inject('/orders/7')
  t.match(await app.observability.flush(PATIENCE_MS), { complete: true })
  t.ok(received.every(({ headers }) => headers['content-type'] === 'application/x-protobuf'))
  return new Map(received.map(({ url, headers }) => [url, headers]))
}

for (const [vendor, host, header, value, paths] of [
  ['Honeycomb', 'https://api.honeycomb.io', 'x-honeycomb-team', 'YOUR_API_KEY', OTLP],
  [
    'Grafana Cloud',
    'https://otlp-gateway-prod-eu-west-2.grafana.net',
    'authorization',
    BASIC,
    OTLP.map((path) => `/otlp${path}`)
  ],
  ['Datadog', 'https://otlp.datadoghq.com', 'dd-api-key', 'YOUR_API_KEY', OTLP],
  [
    'Dynatrace',
    'https://abc12345.live.dynatrace.com',
    'authorization',
    'Api-Token dt0c01.YOUR_TOKEN',
    OTLP.map((path) => `/api/v2/otlp${path}`)
  ],
  [
    'Sentry',
    'https://o1.ingest.sentry.io',
    'x-sentry-auth',
    'sentry sentry_key=YOUR_PUBLIC_KEY',
    ['/api/1/integration/otlp/v1/traces', '/api/1/integration/otlp/v1/logs']
  ]
] as const) {
  test(`${vendor} receives each signal at its path, with ${header}, by the environment that docs/vendors.md gives`, async (t) => {
    const received = await receivedBy(t, vendor, host)
    t.same([...received.keys()].sort(), [...paths].sort())
    for (const headers of received.values()) t.equal(headers[header], value)
  })
}

test('metrics for Honeycomb name their dataset too', async (t) => {
  const received = await receivedBy(t, 'Honeycomb', 'https://api.honeycomb.io')
  t.equal(received.get('/v1/metrics')?.['x-honeycomb-dataset'], 'orders_metrics')
  t.equal(received.get('/v1/traces')?.['x-honeycomb-dataset'], undefined)
})
