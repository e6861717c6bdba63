import { setImmediate as turn } from 'node:timers/promises'
import { trace } from '@opentelemetry/api'
import { test } from 'tap'
import { withSpan } from '../src/index.ts'
import { named, spansOf, traced } from './traced.ts'

/** Like a query builder: it begins when somebody waits for it. */
function query(outcome: () => unknown, begun: (string | undefined)[] = []) {
  return {
    // biome-ignore lint/suspicious/noThenProperty: that is what query builders have.
    then(onFulfilled: (value: unknown) => unknown, onRejected: (error: unknown) => unknown) {
      begun.push(trace.getActiveSpan()?.spanContext().spanId)
      return turn().then(outcome).then(onFulfilled, onRejected)
    }
  }
}

test('measures a query to its end, and runs it once, inside the span', async (t) => {
  const { app, collector } = await traced(t)
  const begun: (string | undefined)[] = []
  let ended = false
  const result = await withSpan('load', () =>
    query(() => {
      ended = true
      return 7
    }, begun)
  )
  t.equal(result, 7)
  t.ok(ended)
  const span = named(await spansOf(app, collector), 'load')
  t.same(begun, [span.spanId])
  t.equal(span.status, 'UNSET')
})

test('records the error of a query', async (t) => {
  const { app, collector } = await traced(t)
  const failing = withSpan('load', () => query(() => Promise.reject(new RangeError('deadlock'))))
  await t.rejects(async () => failing, { message: 'deadlock' })
  const span = named(await spansOf(app, collector), 'load')
  t.match(span, { status: 'ERROR', attributes: { 'error.type': 'RangeError' } })
})

test('ends at once with a query that is frozen', async (t) => {
  const { app, collector } = await traced(t)
  t.equal(await withSpan('load', () => Object.freeze(query(() => 7))), 7)
  t.ok(named(await spansOf(app, collector), 'load'))
})
