import { startCollector } from '@fastify-observability/testing/collector'
import { test } from 'tap'
import { isOwn, takeEnds } from './ends.ts'

test('the end of each of 400 requests has its own span and observation, and spans started there are below it', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const ends = await takeEnds({ endpoint: collector.url })
  t.equal(ends.filter(isOwn).length, 400)
  const parents = new Map(collector.spans.map(({ spanId, parentSpanId }) => [spanId, parentSpanId]))
  t.equal(ends.filter(({ below, span }) => parents.get(below) === span?.spanId).length, 400)
})
