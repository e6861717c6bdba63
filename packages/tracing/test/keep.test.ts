import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { registryOf } from '@fastify-observability/observation/internal'
import type { ReceivedSpan } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Span, TraceFlags } from '@opentelemetry/api'
import { type ReadableSpan, SamplingDecision, type SpanProcessor } from '@opentelemetry/sdk-trace'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import tracing, { type TracingOptions, withSpan } from '../src/index.ts'
import { named, spansOf, TRACE_ID, TRACEPARENT, traced } from './traced.ts'

const DAY_MS = 86_400_000

const fails = (): never => {
  throw new TypeError('boom')
}

/** An app that samples nothing, keeps what failed, and answers `/fine` and `/boom` with a span inside. */
async function keeping(t: Test, options: TracingOptions = {}, declare?: (app: FastifyInstance) => void) {
  const started = await traced(t, declare, { sampleRatio: 0, keep: true, ...options })
  started.app.get('/fine', async () => withSpan('inner', () => 'ok'))
  started.app.get('/boom', async () => {
    await withSpan('inner', { note: 'password=planted' }, async () => null)
    return fails()
  })
  return started
}

function countsOf(app: FastifyInstance): Record<string, number> {
  const published = registryOf(app).published.filter(
    ({ name, type }) => name.startsWith('otel_sdk_') && type === 'counter'
  )
  return Object.fromEntries(
    published.flatMap(({ name, collect }) => {
      const signal = name.includes('exporter') ? 'exported' : 'processed'
      return Array.from(collect(), ([labels, count]) => [`${signal} ${Object.values(labels)[0]}`.trim(), count])
    })
  )
}

/** What does not differ between requests. */
function comparable({ name, kind, status, attributes, events }: ReceivedSpan) {
  const { 'network.peer.port': _, 'request.id': __, 'keep.reason': ___, ...others } = attributes
  return { name, kind, status, others, events: events.map(({ name }) => name) }
}

test('exports the trace of a request that failed, whole, though it is not sampled, and says why', async (t) => {
  const { app, collector } = await keeping(t)
  for (const path of ['/fine', '/boom']) await app.inject(path)
  const spans = await spansOf(app, collector)
  t.same(spans.map(({ name }) => name).toSorted(), ['GET /boom', 'inner'])
  const [root, inner] = [named(spans, 'GET /boom'), named(spans, 'inner')]
  t.match(root, {
    status: 'ERROR',
    parentSpanId: '',
    attributes: { 'keep.reason': 'error', 'error.type': 'TypeError' }
  })
  t.match(inner, { traceId: root.traceId, parentSpanId: root.spanId, attributes: { 'keep.reason': undefined } })
})

test('exports the same spans as of a request that is sampled', async (t) => {
  const received: ReceivedSpan[][] = []
  for (const sampleRatio of [0, 1]) {
    const { app, collector } = await keeping(t, { sampleRatio })
    await app.inject('/boom?token=planted')
    received.push(await spansOf(app, collector))
  }
  const [kept = [], sampled = []] = received
  t.same(kept.map(comparable), sampled.map(comparable))
  t.equal(kept.length, 2)
  t.notMatch(JSON.stringify(kept), 'planted')
})

test('exports the trace of a request that was slow, and of no other', async (t) => {
  const received: ReceivedSpan[][] = []
  for (const slowerThanMs of [20, DAY_MS]) {
    const { app, collector } = await keeping(t, { keep: { errors: false, slowerThanMs } }, (app) => {
      app.get('/slow', async () => withSpan('waiting', () => sleep(30)))
    })
    await app.inject('/slow')
    if (slowerThanMs === DAY_MS) for (const path of ['/fine', '/boom']) await app.inject(path)
    received.push(await spansOf(app, collector))
  }
  const [slow = [], others] = received
  t.same(slow.map(({ name }) => name).toSorted(), ['GET /slow', 'waiting'])
  t.match(named(slow, 'GET /slow').attributes, { 'keep.reason': 'slow' })
  t.same(others, [])
})

test('tells what it calls that the trace is not sampled', async (t) => {
  const received: unknown[] = []
  const server = createServer(({ headers }, response) => void response.end(String(received.push(headers.traceparent))))
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => server.close())
  const { port } = Object(server.address()) as AddressInfo
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/calls', async () => {
      await (await fetch(`http://127.0.0.1:${port}/`)).text()
      return fails()
    })
  })
  await app.inject('/calls')
  const spans = await spansOf(app, collector)
  const client = named(spans, 'GET')
  t.same(received, [`00-${client.traceId}-${client.spanId}-00`])
  t.equal(client.parentSpanId, named(spans, 'GET /calls').spanId)
})

test('follows a trusted caller, and keeps the trace that begins at one that is not trusted', async (t) => {
  for (const trustInbound of [true, false]) {
    const { app, collector } = await keeping(t, { trustInbound })
    await app.inject({ url: '/boom', headers: { traceparent: `${TRACEPARENT.slice(0, -2)}00` } })
    const spans = await spansOf(app, collector)
    t.equal(spans.length, trustInbound ? 0 : 2)
    if (!trustInbound) t.match(named(spans, 'GET /boom').links, [{ traceId: TRACE_ID }])
  }
})

test('exports all traces that failed and the share of the others, and counts each span once', async (t) => {
  const { app, collector } = await keeping(t, { sampleRatio: 0.1 })
  for (let request = 0; request < 1_000; request++) await app.inject(request % 100 === 0 ? '/boom' : '/fine')
  const spans = await spansOf(app, collector)
  const roots = spans.filter(({ parentSpanId }) => parentSpanId === '')
  const fine = roots.filter(({ name }) => name === 'GET /fine').length
  t.equal(roots.filter(({ name }) => name === 'GET /boom').length, 10)
  t.ok(fine > 50 && fine < 160, `${fine} of 990`)
  t.equal(spans.length, 2 * roots.length)
  t.same(countsOf(app).processed, spans.length)
  t.same(countsOf(app).exported, spans.length)
})

test('exports what ends after the request, and records nothing more of one that is forgotten', async (t) => {
  const recorded: unknown[] = []
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/:end', async ({ params }) => {
      void withSpan('begun before', () => answered)
      void answered.then(() =>
        withSpan('begun after', (span) => recorded.push([Object(params).end, span.isRecording()]))
      )
      return Object(params).end === 'fails' ? fails() : 'ok'
    })
  })
  for (const end of ['fails', 'succeeds']) await app.inject(`/${end}`)
  answer()
  await sleep(1)
  const spans = await spansOf(app, collector)
  t.same(spans.map(({ name }) => name).toSorted(), ['GET /:end', 'begun after', 'begun before'])
  t.same(recorded, [
    ['fails', true],
    ['succeeds', false]
  ])
})

test('holds so many spans of a trace, the latest, and counts what falls out of one that is kept', async (t) => {
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/:end', async ({ params }) => {
      for (let row = 0; row < 300; row++) withSpan(`row ${row}`, () => null)
      return Object(params).end === 'fails' ? fails() : 'ok'
    })
  })
  await app.inject('/succeeds')
  t.equal(countsOf(app)['processed held_full'], undefined)
  await app.inject('/fails')
  const { complete, spans: undelivered } = await registryOf(app).flush(PATIENCE_MS)
  t.match([complete, undelivered], [true, { pending: 0, dropped: 0 }])
  const spans = await spansOf(app, collector)
  t.equal(spans.length, 256)
  t.match(countsOf(app), { 'processed held_full': 45, processed: 256, exported: 256 })
})

test('leaves out a span that is too large, and no other in its place', async (t) => {
  const huge = Object.fromEntries(Array.from({ length: 128 }, (_, number) => [`${number}`, 'x'.repeat(4_096)]))
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/huge', async () => {
      withSpan('small', () => null)
      withSpan('huge', huge, () => null)
      return fails()
    })
  })
  await app.inject('/huge')
  const spans = await spansOf(app, collector)
  t.same(spans.map(({ name }) => name).toSorted(), ['GET /huge', 'small'])
})

test('decides by what begins a trace: a request that is injected in another follows it', async (t) => {
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/around', async () => (await app.inject('/boom')).statusCode)
    app.get('/failing', async () => {
      await app.inject('/fine')
      return fails()
    })
  })
  for (const path of ['/around', '/failing']) await app.inject(path)
  const names = (await spansOf(app, collector)).map(({ name }) => name)
  t.same(names.toSorted(), ['GET /failing', 'GET /fine', 'inner'])
})

test('keeps what isError calls an error', async (t) => {
  const { app, collector } = await keeping(t, { isError: ({ statusCode }) => statusCode === 404 })
  for (const path of ['/boom', '/nowhere']) await app.inject(path)
  t.same(
    (await spansOf(app, collector)).map(({ name }) => name),
    ['GET']
  )
})

test('keeps what the application has added to a span', async (t) => {
  const link = { context: { traceId: TRACE_ID, spanId: 'b7ad6b7169203331', traceFlags: 1 } }
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/own', async ({ span }) => {
      span?.updateName('own').setAttribute('a', 1).setAttributes({ b: 2 }).addEvent('c').addLink(link).addLinks([link])
      span?.recordException(new RangeError('far'))
      return span?.isRecording() ? fails() : 'ok'
    })
  })
  await app.inject('/own')
  const [span] = await spansOf(app, collector)
  t.match(span, {
    name: 'own',
    attributes: { a: 1, b: 2 },
    links: [link.context, link.context].map(({ traceId }) => ({ traceId }))
  })
  t.same(
    span?.events.map(({ name }) => name),
    ['c', 'exception', 'http.response.first_byte', 'exception']
  )
})

test('gives processors of your own each span once, when it is known whether it is kept', async (t) => {
  const seen: [moment: string, name: string, flags: number][] = []
  const note = (moment: string) => (span: Span | ReadableSpan) => {
    if ('name' in span) seen.push([moment, String(span.name), span.spanContext().traceFlags])
  }
  const processor: SpanProcessor = {
    onStart: (span) => {
      span.setAttribute('begun', true)
      note('start')(span)
    },
    onEnd: note('end'),
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  }
  const { app, collector } = await keeping(t, { spanProcessors: [processor] })
  for (const path of ['/fine', '/boom']) await app.inject(path)
  const spans = await spansOf(app, collector)
  const of = (root: string, flags: number) => [
    ['start', root, TraceFlags.NONE],
    ['start', 'inner', TraceFlags.NONE],
    ['end', 'inner', flags],
    ['end', root, flags]
  ]
  t.same(seen, [...of('GET /fine', TraceFlags.NONE), ...of('GET /boom', TraceFlags.SAMPLED)])
  t.same(
    spans.map(({ attributes }) => attributes.begun),
    [true, true]
  )
})

test('prints only the traces that are kept or sampled', async (t) => {
  const written = t.capture(process.stderr, 'write', () => true)
  const { app } = await keeping(t, { console: true })
  for (const path of ['/fine', '/boom']) await app.inject(path)
  await app.close()
  const text = written()
    .map(({ args }) => String(args[0]))
    .join('')
  t.match(text, 'SERVER  GET /boom')
  t.notMatch(text, 'GET /fine')
})

test('keeps traces that a sampler of your own, a route or the environment does not sample', async (t) => {
  const sampler = { shouldSample: () => ({ decision: SamplingDecision.NOT_RECORD }) }
  const { app, collector } = await keeping(t, { sampler }, (app) => {
    app.get('/route', { config: { observability: { trace: { ratio: 0 } } } }, async () => withSpan('inside', fails))
    app.get('/untraced', { config: { observability: { trace: false } } }, async () => withSpan('inside', fails))
  })
  for (const path of ['/boom', '/route', '/untraced']) await app.inject(path)
  const names = (await spansOf(app, collector)).map(({ name }) => name)
  t.same(names.toSorted(), ['GET /boom', 'GET /route', 'inner', 'inside'])
})

test('forgets the spans of requests that hang beyond 8 MiB, the oldest first', async (t) => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  const { app, collector } = await keeping(t, {}, (app) => {
    app.get('/hangs', async () => {
      for (let row = 0; row < 10; row++) withSpan('row', { text: 'x'.repeat(4_000) }, () => null)
      await released
      return fails()
    })
  })
  const asked = Array.from({ length: 300 }, () => app.inject('/hangs'))
  await sleep(0)
  await app.inject('/fine')
  release()
  await Promise.all(asked)
  await app.close()
  const { 'processed held_full': fallen = 0, 'processed queue_full': queued = 0 } = countsOf(app)
  t.ok(fallen > 1_000 && fallen < 2_000, `${fallen} of 3,000 fell out`)
  t.equal(collector.spans.length + fallen + queued, 300 * 11)
})

test('records no span of what is not sampled where nothing is to be kept, or nobody receives it', async (t) => {
  const { app } = await keeping(t, { keep: false }, (app) => app.get('/', async ({ span }) => span?.isRecording()))
  t.equal((await app.inject('/')).json(), false)
  await app.close()
  const alone = Fastify()
  await alone.register(tracing, { sampleRatio: 0, keep: true })
  alone.get('/', async ({ span }) => span?.isRecording())
  t.equal((await alone.inject('/')).json(), false)
  await alone.close()
})
