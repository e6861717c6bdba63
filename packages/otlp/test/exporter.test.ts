import { once } from 'node:events'
import http from 'node:http'
import type net from 'node:net'
import { buffer } from 'node:stream/consumers'
import { docsOf } from '@fastify-observability/observation/internal'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import { TracerProvider } from '@opentelemetry/sdk-trace'
import { test } from 'tap'
import { exportSpans } from '../src/index.ts'
import { produce } from './producer.ts'

const UNAVAILABLE = 14
const INVALID_ARGUMENT = 3
const RESOURCE_EXHAUSTED = 8

function origin(server: net.Server): string {
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' && address?.port}`
}

async function timed(work: () => PromiseLike<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

test('delivers every span once when the collector is unavailable twice', async (t) => {
  const collector = await startCollector({ answer: (call) => (call <= 2 ? { code: UNAVAILABLE } : 'accept') })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(100)
  await collector.called(3)
  await producer.close()
  t.equal(collector.calls, 3)
  t.equal(new Set(collector.spans.map(({ spanId }) => spanId)).size, 100)
  t.equal(collector.spans.length, 100)
  t.same(producer.counts(), { exported: 100 })
  t.same(producer.warnings, [])
})

test('retries at the shutdown too', async (t) => {
  const collector = await startCollector({ answer: (call) => (call <= 2 ? { code: UNAVAILABLE } : 'accept') })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(100)
  await producer.close()
  t.equal(collector.spans.length, 100)
  t.same(producer.counts(), { exported: 100 })
})

test('does not retry what is permanent, and says so once a minute and at the end', async (t) => {
  const collector = await startCollector({ answer: () => ({ code: INVALID_ARGUMENT }) })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  for (const _ of [1, 2]) {
    producer.end(100)
    await producer.flush()
  }
  t.equal(collector.calls, 2)
  t.same(producer.counts(), { export_failed: 200 })
  const docs = docsOf('delivery')
  const first = { endpoint: collector.url, spans_lost: 100, reason: 'INVALID_ARGUMENT', docs }
  t.same(producer.warnings, [[first, 'tracing: spans could not be exported']])
  await producer.close()
  t.match(producer.warnings, [[first], [first]])
})

test('tries again after every status that the specification calls transient', async (t) => {
  for (const code of [1, 4, 10, 11, 14, 15]) {
    const collector = await startCollector({ answer: (call) => (call === 1 ? { code } : 'accept') })
    const producer = produce(collector.url)
    producer.end(1)
    await producer.flush()
    t.same(producer.counts(), { exported: 1 }, `status ${code}`)
    await producer.close()
    await collector.close()
  }
})

test('retries an exhausted collector only when it names a delay, and after that delay', async (t) => {
  const refused = { code: RESOURCE_EXHAUSTED }
  const collector = await startCollector({
    answer: (call) => [refused, { ...refused, retryAfterSeconds: 1 }][call - 1] ?? 'accept'
  })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(1)
  await collector.called(1)
  await producer.flush()
  t.same(producer.counts(), { export_failed: 1 })
  producer.end(1)
  const elapsed = await timed(() => producer.flush())
  t.ok(elapsed >= 1_000, `${elapsed} ms`)
  t.same(producer.counts(), { export_failed: 1, exported: 1 })
  await producer.close()
})

test('counts what a partial success rejects, and does not send it again', async (t) => {
  const collector = await startCollector({ answer: (call) => (call === 1 ? { rejected: 30 } : 'accept') })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(100)
  await producer.flush()
  producer.end(5)
  await producer.close()
  t.equal(collector.calls, 2)
  t.equal(collector.spans.length, 75)
  t.same(producer.counts(), { exported: 75, rejected: 30 })
  t.match(producer.warnings, [[{ spans_lost: 30, reason: 'rejected' }]])
})

test('counts no more as rejected than were sent', async (t) => {
  const collector = await startCollector({ answer: () => ({ rejected: 500 }) })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(10)
  await producer.close()
  t.same(producer.counts(), { rejected: 10 })
})

test('reads no more than 64 KiB of an answer', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf' })
  // A field that nobody knows, of 100,000 bytes, and behind it a partial success.
  const padding = Buffer.concat([Buffer.from([0x7a, 0xa0, 0x8d, 0x06]), Buffer.alloc(100_000)])
  const server = http.createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).write(padding)
    response.end(Buffer.from([0x0a, 0x02, 0x08, 0x05]))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const producer = produce(origin(server))
  producer.end(10)
  await producer.close()
  t.same(producer.counts(), { exported: 10 })
})

test('drops beyond its bound, and counts them', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(5_000)
  t.equal(producer.queueSize(), 2_048)
  await producer.close()
  t.same(producer.counts(), { exported: 2_048, queue_full: 2_952 })
  t.equal(collector.spans.length, 2_048)
})

test('holds 64 MiB of spans that cannot be sent, and counts the rest as dropped', async (t) => {
  const collector = await startCollector({ answer: () => 'never' })
  const producer = produce(collector.url, 1)
  producer.end(40, 'x'.repeat(2 * 1024 * 1024))
  await producer.close()
  t.same(producer.counts(), { queue_full: 9, shutdown: 31 })
  await collector.close()
})

test('closes at once with a healthy collector, and nothing is lost', async (t) => {
  withEnv(t, { OTEL_BSP_SCHEDULE_DELAY: '60000' })
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(1_000)
  const elapsed = await timed(() => producer.close())
  t.comment(`${elapsed} ms`)
  t.ok(elapsed < STARVED_MS, `${elapsed} ms`)
  t.equal(collector.spans.length, 1_000)
})

test('waits for the batch in flight at the shutdown, and counts what ends after it', async (t) => {
  const collector = await startCollector({ answer: () => ({ delayMs: 300 }) })
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(10)
  await collector.called(1)
  await producer.close()
  t.equal(collector.spans.length, 10)
  producer.end(3)
  t.same(producer.counts(), { exported: 10, shutdown: 3 })
})

test('closes in time when the collector never answers', async (t) => {
  const collector = await startCollector({ answer: () => 'never' })
  const producer = produce(collector.url, 1_000)
  producer.end(1)
  await collector.called(1)
  producer.end(1)
  const elapsed = await timed(() => producer.close())
  t.comment(`${elapsed} ms`)
  t.ok(elapsed < 1_000 + STARVED_MS, `${elapsed} ms`)
  // Its own close waits for the connections of its clients.
  await collector.close()
})

test('sends http/protobuf where the environment says so, with its headers and retries', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf', OTEL_EXPORTER_OTLP_HEADERS: 'api-key=s3cret' })
  const seen: unknown[] = []
  const statuses = [503, 200, 400]
  const server = http.createServer(async (request, response) => {
    const { length } = await buffer(request)
    seen.push({ path: request.url, type: request.headers['content-type'], key: request.headers['api-key'], length })
    response.writeHead(statuses.shift() ?? 200).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const producer = produce(origin(server))
  for (const spans of [10, 5]) {
    producer.end(spans)
    await producer.flush()
  }
  await producer.close()
  const call = { path: '/v1/traces', type: 'application/x-protobuf', key: 's3cret', length: Number }
  t.match(seen, [call, call, call])
  t.equal(seen.length, 3)
  t.same(producer.counts(), { exported: 10, export_failed: 5 })
  t.match(producer.warnings, [[{ spans_lost: 5, reason: 'HTTP 400' }]])
})

test('tells no header value and no password', async (t) => {
  const collector = await startCollector({ answer: () => ({ code: INVALID_ARGUMENT, details: 'bad token s3cret' }) })
  t.teardown(() => collector.close())
  const producer = produce(collector.url.replace('//', '//user:s3cret@'))
  producer.end(1)
  await producer.close()
  const line = { endpoint: collector.url, spans_lost: 1, reason: 'INVALID_ARGUMENT', docs: docsOf('delivery') }
  t.same(producer.warnings, [[line, 'tracing: spans could not be exported']])
})

test('leaves out headers that cannot be sent, and names the variable only', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_HEADERS: 'authorization=s3cret%0A,api%20key=s3cret,key-bin=s3cret,plain=sent' })
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(1)
  await producer.close()
  t.match(collector.headers, [{ plain: 'sent' }])
  t.notOk(JSON.stringify(collector.headers).includes('s3cret'))
  t.match(producer.warnings, [
    [{}, /^tracing: OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs .* its value is ignored$/]
  ])
})

test('survives a log that throws', async (t) => {
  const log = {
    warn() {
      throw new Error('ENOSPC: no space left on device')
    }
  }
  const { processor, series } = exportSpans({ endpoint: 'http://127.0.0.1:1', shutdownTimeoutMs: 200, log })
  const provider = new TracerProvider({ spanProcessors: [processor] })
  provider.getTracer('test').startSpan('lost').end()
  await provider.shutdown()
  t.match(Array.from(series[0]?.collect() ?? []), [
    [{ error_type: '' }, 0],
    [{ error_type: 'export_failed' }, 0],
    [{ error_type: 'rejected' }, 0],
    [{ error_type: 'too_large' }, 0],
    [{ error_type: 'shutdown' }, 1]
  ])
})

test('ignores a protocol that it does not speak, with a warning', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' })
  const producer = produce('http://127.0.0.1:1')
  const message = "tracing: OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf, 'http/json' is ignored"
  t.same(producer.warnings, [[{ docs: docsOf('wrong-options') }, message]])
})

test('counts what finds nobody over HTTP', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf' })
  const producer = produce('http://127.0.0.1:1', 1_000)
  producer.end(10)
  await producer.close()
  t.same(producer.counts(), { shutdown: 10 })
})
