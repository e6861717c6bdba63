import { EventEmitter, once } from 'node:events'
import { currentObservation } from '@fastify-observability/observation'
import { context, ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { test } from 'tap'
import { withSpan } from '../src/index.ts'
import { traced } from './traced.ts'

interface Seen {
  path: string | undefined
  spanId: string | undefined
}

const look = (): Seen => ({ path: currentObservation()?.path, spanId: trace.getActiveSpan()?.spanContext().spanId })

/** Two requests, of which the second calls what the first has bound. */
async function crossing(t: Parameters<typeof traced>[0], bind: (look: () => Seen) => () => Seen) {
  let bound: (() => Seen) | undefined
  let own: Seen | undefined
  const { app } = await traced(t, (app) => {
    app.get('/:n', async ({ params }) => {
      if (Object(params).n === 'two') return bound?.()
      own = look()
      bound = bind(look)
      return {}
    })
  })
  await app.inject('/one')
  const seen: Seen = (await app.inject('/two')).json()
  return { seen, own }
}

test('a callback that OpenTelemetry has bound belongs to the request that its span belongs to', async (t) => {
  const { seen, own } = await crossing(t, (look) => context.bind(context.active(), look))
  t.same(seen, own)
  t.equal(seen.path, '/one')
})

test('a callback bound inside a span of a request belongs to that request', async (t) => {
  const { seen } = await crossing(t, (look) => withSpan('inner', () => context.bind(context.active(), look)))
  t.equal(seen.path, '/one')
})

test('the listeners of a bound emitter belong to the request that has bound it', async (t) => {
  const { seen } = await crossing(t, (look) => {
    const emitter = context.bind(context.active(), new EventEmitter())
    let seen: Seen = { path: undefined, spanId: undefined }
    emitter.on('go', () => {
      seen = look()
    })
    return () => {
      emitter.emit('go')
      return seen
    }
  })
  t.equal(seen.path, '/one')
})

test('a context of no request leaves code in the request that runs it', async (t) => {
  const { seen } = await crossing(t, (look) => context.bind(ROOT_CONTEXT, look))
  t.same(seen, { path: '/two' })
  t.ok(once)
})
