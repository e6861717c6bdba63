import { STARVED_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { invoke, played } from './frozen-call.ts'
import { start, startReceivers } from './process.ts'

test('everything about a request is out when a function is frozen at its answer', async (t) => {
  const { collector, ingest, answer, messages } = await played(
    async () => {
      const receivers = await startReceivers(t)
      return { ...receivers, ...(await invoke('/boom', receivers.env)) }
    },
    ({ collector, ingest }) => [collector.spans, ingest.events, collector.points].every(({ length }) => length > 0)
  )
  t.match(answer, '"statusCode":500')
  t.same(messages, ['request completed'])
  t.match(collector.spans, [{ name: 'GET /boom', attributes: { 'http.response.status_code': 500 } }])
  t.match(ingest.events, [{ exception: { values: [{ value: 'boom' }] } }])
  t.ok(collector.points.some(({ name, count }) => name === 'http.server.request.duration' && count === 1))
})

test('a line is written before the call returns', async (t) => {
  const { env } = await startReceivers(t)
  t.same((await invoke('/crash', env)).messages, ['in the handler'])
})

test('over a socket the answer follows what is known of it too, request after request', async (t) => {
  const delivered = [1, 2, 3, 4, 5]
  const { lines, line, spans } = await played(
    async () => {
      const { collector, env } = await startReceivers(t)
      const service = await start(t, env, 'frozen.ts')
      const spans: number[] = []
      for (const request of delivered) {
        t.equal(await (await fetch(`${service.origin}/${request % 2 ? 'stream' : 'orders/7'}`)).text(), 'the order')
        spans.push(collector.spans.length)
      }
      return { ...service, spans }
    },
    ({ spans }) => spans.join() === delivered.join()
  )
  t.same(spans, delivered)
  await line('request completed', 5)
  t.equal(lines.filter(({ route }) => route !== undefined).length, 5)
})

test('an outage of the collector makes one answer wait, and not each', async (t) => {
  const { env } = await startReceivers(t, { answer: () => 'never' })
  const { origin } = await start(t, env, 'frozen.ts')
  const startedAt = performance.now()
  for (let request = 1; request <= 5; request++) t.equal((await fetch(`${origin}/orders/7`)).status, 200)
  t.ok(performance.now() - startedAt < 2_000 + STARVED_MS)
})
