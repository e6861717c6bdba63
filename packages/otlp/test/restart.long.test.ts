import { setTimeout as sleep } from 'node:timers/promises'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { freePorts } from '@fastify-observability/testing/ports'
import { test } from 'tap'
import { SIGNALS } from './producer.ts'

const RESTART_MS = 3_000

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  for (const [signal, start] of SIGNALS) {
    test(`loses no ${signal} over ${protocol} while the collector is away for three seconds`, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol })
      const [port = 0] = await freePorts(1)
      const producer = start(`http://127.0.0.1:${port}`)
      producer.end(100)
      const flushed = producer.flush()
      await sleep(RESTART_MS)
      const collector = await startCollector({ protocol, port })
      t.teardown(() => collector.close())
      await flushed
      t.same(producer.counts(), { exported: 100 })
      t.equal(producer.received(collector).length, 100)
      await producer.close()
    })
  }
}
