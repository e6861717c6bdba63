import { registryOf } from '@fastify-observability/observation/internal'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

test('holds 64 events while the SDK is loading, and counts the others', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn, maxEventsPerMinute: 1_000, maxEqualEventsPerMinute: 1_000 })
  const { jobs, flush, published } = registryOf(app)
  // They fail before any file is read.
  const failing = Array.from({ length: 70 }, () =>
    jobs.observe('import', async () => Promise.reject(new Error('boom')))
  )
  const dropped = published.find(({ name }) => name === 'sentry_events_dropped_total')
  await Promise.allSettled(failing)
  // Before the SDK is there, which lets no more than 64 wait either.
  t.same(Array.from(dropped?.collect() ?? []), [[{ reason: 'queue_overflow' }, 6]])
  await flush(PATIENCE_MS)
  t.equal(ingest.events.length, 64)
  t.same(Array.from(dropped?.collect() ?? []), [[{ reason: 'queue_overflow' }, 6]])
  await app.close()
})
