import { setTimeout as sleep } from 'node:timers/promises'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { test } from 'tap'
import { produce } from './producer.ts'

const OUTAGE_MS = 30_000

test('accounts for every span while the collector is down for 30 seconds under load', async (t) => {
  withEnv(t, {
    OTEL_BSP_MAX_QUEUE_SIZE: '300',
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '100',
    OTEL_BSP_EXPORT_TIMEOUT: '10000'
  })
  const before = await startCollector()
  const { port } = new URL(before.url)
  const producer = produce(before.url)
  let produced = 0
  let longest = 0
  const heapBefore = process.memoryUsage().heapUsed
  const load = setInterval(() => {
    producer.end(10)
    produced += 10
    longest = Math.max(longest, producer.queueSize())
  }, 5)
  await before.span(() => true)
  await before.close()
  await sleep(OUTAGE_MS)
  // Spans that arrive while the answer comes too late count as lost: after a failure the next batch has its whole time.
  const lost = producer.counts().export_failed
  while (producer.counts().export_failed === lost) await sleep(10)
  const after = await startCollector({ port: Number(port) })
  t.teardown(() => after.close())
  await after.span(() => true)
  clearInterval(load)
  await producer.close()

  const { exported = 0, ...dropped } = producer.counts()
  t.comment({ produced, exported, ...dropped, longest })
  t.equal(exported + Object.values(dropped).reduce((sum, spans) => sum + spans, 0), produced)
  t.equal(before.spans.length + after.spans.length, exported)
  t.match(dropped, { queue_full: Number, export_failed: Number })
  t.ok(longest <= 300, `${longest} spans`)
  t.equal(producer.queueSize(), 0)
  const growthMiB = (process.memoryUsage().heapUsed - heapBefore) / 2 ** 20
  t.ok(growthMiB < 50, `${growthMiB} MiB more`)
})
