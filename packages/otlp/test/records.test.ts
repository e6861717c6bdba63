import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { exportLogs } from '../src/index.ts'

/** The attributes of a record as a collector has them, in an environment. */
async function received(t: Test, env: Record<string, string>, attributes: Record<string, unknown>) {
  withEnv(t, env)
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const service = { name: 'shop', version: undefined, environment: 'test' }
  const log = { warn: () => undefined }
  const records = exportLogs({ endpoint: collector.url, service, scope: { name: 'test' }, log })
  records.add({ timeMs: Date.now(), severityNumber: 9, severityText: 'info', body: 'x'.repeat(10), attributes })
  await records.close(PATIENCE_MS)
  t.equal(collector.logs[0]?.body, 'x'.repeat(10))
  return collector.logs[0]
}

const MANY = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`key${index}`, index]))

test('holds 128 attributes of a record, and counts the others in it', async (t) => {
  const record = await received(t, {}, MANY)
  t.equal(Object.keys(record?.attributes ?? {}).length, 128)
  t.equal(record?.droppedAttributesCount, 72)
})

for (const [variable, kept] of [
  ['OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT', 2],
  ['OTEL_ATTRIBUTE_COUNT_LIMIT', 3]
] as const) {
  test(`holds as many as ${variable} says`, async (t) => {
    const record = await received(t, { [variable]: String(kept) }, MANY)
    t.equal(Object.keys(record?.attributes ?? {}).length, kept)
    t.equal(record?.droppedAttributesCount, 200 - kept)
  })
}

test('cuts each text of an attribute to the limit, and not the message', async (t) => {
  const env = { OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT: '3' }
  const record = await received(t, env, { text: 'four', list: ['four', 5], map: { inner: 'four' }, number: 12_345 })
  t.same(record?.attributes, { text: 'fou', list: ['fou', 5], map: { inner: 'fou' }, number: 12_345 })
  t.equal(record?.droppedAttributesCount, 0)
})

test('ignores a limit that is no number', async (t) => {
  const record = await received(t, { OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT: 'many' }, MANY)
  t.equal(Object.keys(record?.attributes ?? {}).length, 128)
})
