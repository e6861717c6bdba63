import { setTimeout as sleep } from 'node:timers/promises'
import { runInBackground } from '@fastify-observability/observation/internal'
import { type ReceivedSpan, startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, { logger, type ObservabilityOptions, observe, withSpan } from '../src/index.ts'

type Line = Record<string, unknown>

const KEEP = { errors: true, slowerThanMs: STARVED_MS }

/** A service with the suite, its lines, and the spans that it has delivered. */
async function keeping(t: Test, options: ObservabilityOptions, declare: (app: FastifyInstance) => void) {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const lines: Line[] = []
  const app = Fastify()
  const { logging, tracing, ...others } = options
  await app.register(observability, {
    keep: KEEP,
    ...others,
    logging: { level: 'info', stream: { write: (line) => void lines.push(JSON.parse(line)) }, ...Object(logging) },
    tracing: { endpoint: collector.url, ...Object(tracing) }
  })
  declare(app)
  return { app, lines, spans: collector.spans }
}

function serve(app: FastifyInstance): void {
  app.get<{ Params: { id: string } }>('/orders/:id', async ({ params: { id } }) => {
    for (let step = 0; step < 10; step++) {
      await withSpan(`step ${step}`, async () => {
        logger().debug({ step }, 'looking it up')
        await null
      })
    }
    if (id.endsWith('17')) await sleep(STARVED_MS + 10)
    if (id.endsWith('42')) throw new Error('no such order')
    return { id }
  })
}

const isKept = (path: unknown): boolean => /(17|42)$/.test(String(path))

test('tells the whole story of the failed and the slow among 1,000 requests at once, and of no other', async (t) => {
  const { app, lines, spans } = await keeping(t, { tracing: { sampleRatio: 0.1 } }, serve)
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  // A caller outside of this process, whose calls the suite does not trace.
  const ask = async (id: number) => (await fetch(`${origin}/orders/${id}`)).text()
  await Promise.all(Array.from({ length: 1_000 }, (_, id) => runInBackground(ask, id)))
  const metrics = await (await fetch(`${origin}/metrics`)).text()
  t.notMatch(metrics, 'held_full')
  const { complete } = await app.observability.flush(PATIENCE_MS)
  t.ok(complete)
  await app.close()

  const stories = Map.groupBy(
    lines.filter(({ path }) => /orders/.test(String(path))),
    ({ path }) => path
  )
  t.equal(stories.size, 1_000)
  for (const [path, story] of stories) {
    const told = story.map(({ msg, step, held }) => (held ? step : msg))
    const expected = isKept(path) ? [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 'request completed'] : ['request completed']
    if (JSON.stringify(told) !== JSON.stringify(expected)) t.same(told, expected, String(path))
  }
  checkTraces(t, spans, lines)
})

/** Whole traces: those of requests that are kept, and a tenth of the others. */
function checkTraces(t: Test, spans: readonly ReceivedSpan[], lines: readonly Line[]): void {
  // One scrape in ten has a trace too.
  const asked = spans.filter(({ attributes }) => attributes['url.path'] !== '/metrics')
  const traces = Map.groupBy(asked, ({ traceId }) => traceId)
  t.ok([...traces.values()].every(({ length }) => length === 11))
  const roots = spans.filter(({ name }) => name === 'GET /orders/:id')
  const kept = roots.filter(({ attributes }) => isKept(attributes['url.path']))
  const others = roots.length - kept.length
  t.equal(kept.length, 20)
  t.ok(others > 50 && others < 160, `${others} of 980`)
  for (const { spanId, name, traceId } of spans) {
    const line = lines.find((line) => line.span_id === spanId && line.held)
    if (line && (name !== `step ${line.step}` || line.trace_id !== traceId)) t.fail(`${name} has line ${line.step}`)
  }
  t.equal(lines.filter((line) => line.held && spans.some(({ spanId }) => spanId === line.span_id)).length, 200)
}

test('a part has a rule of its own, or none', async (t) => {
  const options = { tracing: { sampleRatio: 0, keep: { slowerThanMs: 0 } }, logging: { keep: false } }
  const { app, lines, spans } = await keeping(t, options, serve)
  for (const id of [1, 42]) await app.inject(`/orders/${id}`)
  await app.close()
  const reasons = spans.flatMap(({ attributes }) => attributes['keep.reason'] ?? [])
  t.same(reasons, ['slow', 'error'])
  t.notOk(lines.some(({ held }) => held))
})

test('lets no field take a name that says what is kept', async (t) => {
  const { app, lines, spans } = await keeping(t, { tracing: { sampleRatio: 0 } }, (app) => {
    app.get('/', async ({ observation }) => {
      observation.add({ held: 'forged', 'keep.reason': 'forged' })
      throw new Error('boom')
    })
  })
  await app.inject('/')
  await app.close()
  t.notMatch(JSON.stringify([lines, spans]), 'forged')
  t.equal(spans[0]?.attributes['keep.reason'], 'error')
})

test('refuses a wrong option of keep', async (t) => {
  await t.rejects(
    async () => Fastify().register(observability, { keep: { slowerThanMs: Number.NaN } }),
    new TypeError(
      'fastify-observability: option "keep.slowerThanMs" must be a number of milliseconds from 0 to 86400000, a day, got NaN'
    )
  )
})

test('a job in a request that failed is in its trace, and lines of the job below the level are not held', async (t) => {
  const { app, lines, spans } = await keeping(t, { tracing: { sampleRatio: 0 } }, (app) => {
    app.get('/', async ({ log }) => {
      await observe('import', async () => {
        log.debug('of the request')
        logger().debug('of the job')
      })
      throw new Error('boom')
    })
  })
  await app.inject('/')
  await app.close()
  const messages = lines.filter(({ job, path }) => job ?? path).map(({ msg }) => msg)
  t.same(messages, ['job completed', 'of the request', 'request completed'])
  t.same(spans.map(({ name }) => name).sort(), ['GET /', 'import'])
})

test('a job of its own that fails is one line, and no trace where it is not sampled', async (t) => {
  const { app, lines, spans } = await keeping(t, { tracing: { sampleRatio: 0 } }, () => undefined)
  const failing = async () => {
    logger().debug({ step: 1 }, 'looking it up')
    throw new Error('boom')
  }
  await t.rejects(app.observability.observe('import', failing), { message: 'boom' })
  await app.close()
  t.match(
    lines.filter(({ job, step }) => job ?? step),
    [{ msg: 'job failed', err: { message: 'boom' } }]
  )
  t.same(spans, [])
})
