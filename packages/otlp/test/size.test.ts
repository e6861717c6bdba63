import { once } from 'node:events'
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { test } from 'tap'
import { produce, SIGNALS } from './producer.ts'

test('sends no request of more than 3 MiB, before anybody refuses one', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' })
  const sizes: number[] = []
  const server = createServer(async (request, response) => {
    sizes.push((await buffer(request)).length)
    response.end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  const producer = produce(`http://127.0.0.1:${typeof address === 'object' && address?.port}`)
  producer.end(600, 'x'.repeat(12_000))
  await producer.close()
  t.ok(sizes.length > 2 && Math.max(...sizes) <= 3 * 1024 * 1024, String(sizes))
})

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  for (const [signal, start] of SIGNALS) {
    test(`delivers 1,200 ${signal} of 12 KB over ${protocol} to a collector that takes 4 MiB a request`, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol })
      const collector = await startCollector({ protocol })
      t.teardown(() => collector.close())
      const producer = start(collector.url)
      producer.end(1_200, 'x'.repeat(12_000))
      await producer.close()
      t.same(producer.counts(), { exported: 1_200 })
      t.equal(producer.received(collector).length, 1_200)
    })

    test(`sends ${signal} over ${protocol} in halves to a collector that takes less`, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol })
      const collector = await startCollector({ protocol, maxRequestBytes: 64 * 1024 })
      t.teardown(() => collector.close())
      const producer = start(collector.url)
      producer.end(200, 'x'.repeat(1_000))
      producer.end(1, 'x'.repeat(100_000))
      await producer.close()
      t.same(producer.counts(), { exported: 200, too_large: 1 })
      t.equal(producer.received(collector).length, 200)
    })

    if (signal === 'points') continue
    test(`cuts one of the ${signal} that is larger than a batch, over ${protocol}`, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol })
      const collector = await startCollector({ protocol })
      t.teardown(() => collector.close())
      const producer = start(collector.url)
      producer.end(1, 'é'.repeat(3_000_000))
      await producer.close()
      t.same(producer.counts(), { exported: 1 })
      t.match(producer.received(collector), [{ attributes: { padding: `${'é'.repeat(16_384)}…` } }])
    })
  }
}
