import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { type Test, test } from 'tap'
import { destinationOf, type Signal } from '../src/destination.ts'
import { SIGNALS } from './producer.ts'

/** Where a signal goes in an environment, and what was wrong with that. */
function destination(t: Test, variables: Record<string, string>, signal: Signal = 'logs') {
  withEnv(t, variables)
  const warnings: string[] = []
  return { warnings, ...destinationOf(signal, undefined, (message) => warnings.push(message)) }
}

test('prefers what is said for one signal', async (t) => {
  const found = destination(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://everything:4317',
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: 'https://logs.example.com/in',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: 'HTTP/protobuf',
    OTEL_EXPORTER_OTLP_HEADERS: 'tenant=all,key=one',
    OTEL_EXPORTER_OTLP_LOGS_HEADERS: 'key=two',
    OTEL_EXPORTER_OTLP_TIMEOUT: '1000',
    OTEL_EXPORTER_OTLP_LOGS_TIMEOUT: '2000',
    OTEL_EXPORTER_OTLP_LOGS_COMPRESSION: 'gzip'
  })
  t.match(found, {
    protocol: 'http/protobuf',
    url: { href: 'https://logs.example.com/in' },
    headers: { tenant: 'all', key: 'two' },
    timeoutMs: 2_000,
    compression: 'gzip',
    warnings: []
  })
})

for (const [signal, path] of [
  ['traces', '/base/v1/traces'],
  ['logs', '/base/v1/logs'],
  ['metrics', '/base/v1/metrics']
] as const) {
  test(`posts ${signal} below the general endpoint`, async (t) => {
    const variables = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1/base/',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf'
    }
    t.equal(destination(t, variables, signal).url.pathname, path)
  })
}

test('takes port 4318 for HTTP, and says so', async (t) => {
  const { protocol, note } = destination(t, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' })
  t.equal(protocol, 'http/protobuf')
  t.match(note, /^port 4318 means http\/protobuf/)
})

test('takes a protocol that is named on any port', async (t) => {
  const variables = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }
  const { protocol, note } = destination(t, variables)
  t.equal(protocol, 'grpc')
  t.equal(note, undefined)
})

test('ignores an invalid value with one warning, which repeats no endpoint', async (t) => {
  const variables = {
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: 'collector:4317',
    OTEL_EXPORTER_OTLP_LOGS_TIMEOUT: '10s',
    OTEL_EXPORTER_OTLP_LOGS_COMPRESSION: 'zstd'
  }
  const found = destination(t, variables)
  t.match(found, { timeoutMs: 10_000, compression: 'none', url: { href: 'http://localhost:4317/' } })
  t.same(found.warnings, [
    'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT must be an http:// or https:// URL, its value is ignored',
    "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT must be a number from 1, '10s' is ignored",
    "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION must be gzip or none, 'zstd' is ignored"
  ])
  t.same(destination(t, variables).warnings, [])
})

test('reads the certificates, and ignores a file that cannot be read', async (t) => {
  const file = join(await mkdtemp(join(tmpdir(), 'otlp-')), 'ca.pem')
  await writeFile(file, 'trusted')
  const found = destination(t, {
    OTEL_EXPORTER_OTLP_CERTIFICATE: file,
    OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY: '/nowhere/key.pem'
  })
  t.same(found.tls, { ca: Buffer.from('trusted') })
  t.same(found.warnings, [
    "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY must be a file that can be read, '/nowhere/key.pem' is ignored"
  ])
})

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  for (const [signal, start] of SIGNALS) {
    test(`compresses ${signal} over ${protocol}`, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip' })
      const collector = await startCollector({ protocol })
      t.teardown(() => collector.close())
      const producer = start(collector.url)
      producer.end(100, 'x'.repeat(1_000))
      await producer.close()
      t.same(producer.counts(), { exported: 100 })
      t.equal(producer.received(collector).length, 100)
      if (protocol !== 'grpc') t.match(collector.headers, [{ 'content-encoding': 'gzip' }])
    })
  }
}
