import { withEnv } from '@fastify-observability/testing/environment'
import { noCollector as skip, startRealCollector } from '@fastify-observability/testing/real-collector'
import { test } from 'tap'
import { SIGNALS } from './producer.ts'

const ITEMS = {
  spans: { count: 1_200, bytes: 12_000 },
  records: { count: 1_000, bytes: 10_000 },
  points: { count: 1_000, bytes: 1_000 }
}

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  for (const [signal, start] of SIGNALS) {
    const { count, bytes } = ITEMS[signal]
    test(`delivers ${count} ${signal} of ${bytes} bytes to a real collector over ${protocol}`, { skip }, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip' })
      const collector = await startRealCollector()
      t.teardown(() => collector.close())
      const producer = start(protocol === 'grpc' ? collector.grpc : collector.http)
      producer.end(count, 'x'.repeat(bytes))
      await producer.close()
      t.same(producer.counts(), { exported: count })
      t.equal((await collector.end()).match(/"key":"padding"/g)?.length, count)
    })
  }
}
