import { test } from 'tap'
import { invoke, played } from './frozen-call.ts'
import { startReceivers } from './process.ts'

for (const [target, statusCode, body] of [
  ['/orders/7', 200, 'the order'],
  ['/stream', 200, 'the order'],
  ['/raw', 200, 'the order'],
  ['/missing', 404, 'Not Found']
] as const) {
  test(`the answer to ${target} is as without, and follows its line and span`, async (t) => {
    const { collector, answer, messages } = await played(
      async () => {
        const receivers = await startReceivers(t)
        return { ...receivers, ...(await invoke(target, receivers.env)) }
      },
      ({ collector }) => collector.spans.length > 0
    )
    t.match(answer, `"statusCode":${statusCode}`)
    t.match(answer, body)
    t.equal(messages.at(-1), 'request completed')
    t.match(collector.spans, [{ attributes: { 'http.response.status_code': statusCode } }])
  })
}

test('without the option a function that is frozen at its answer has sent nothing', async (t) => {
  const { collector, env } = await startReceivers(t)
  t.same((await invoke('/orders/7', { ...env, SERVERLESS: 'false' })).messages, [])
  t.same(collector.spans, [])
})
