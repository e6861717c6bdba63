import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Attributes, context, type Span, SpanKind, trace } from '@opentelemetry/api'
import { hrTimeToMilliseconds } from '@opentelemetry/core'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import fc from 'fast-check'
import Fastify from 'fastify'
import { test } from 'tap'
import tracing from '../src/index.ts'
import { spansOf, TRACEPARENT, traced, withEnv } from './traced.ts'

const key = fc.oneof(fc.constantFrom('a', 'b', '', 'http.route', 'url.query'), fc.string())
const scalar = fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.constantFrom(null, undefined, 'x'.repeat(20)))
const value = fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }), fc.constant({ nested: 1 }))
const nothing = fc.constantFrom(null, undefined)
const attributes = fc.dictionary(key, value, { maxKeys: 5, noNullPrototype: true })
const time = fc.oneof(
  fc.constantFrom<[number, number]>([1_790_000_000, 123_456_789]),
  fc.date({ min: new Date(1e12), max: new Date(2e12), noInvalidDate: true }),
  fc.integer({ min: 1e12, max: 2e12 })
)
const linked = { traceId: '1'.repeat(32), spanId: '2'.repeat(16), traceFlags: 1 }
const link = attributes.map((given) => ({ context: linked, attributes: given }))
const exception = fc.oneof(
  fc.string(),
  fc.record({ name: fc.string(), message: fc.string(), stack: fc.string() }, { requiredKeys: ['message'] }),
  fc.record({ code: fc.oneof(fc.integer(), fc.string()), message: fc.string() })
)
/** What a program may do with a span, whatever its types allow. */
const call = fc.oneof(
  fc.tuple(fc.constant('setAttribute'), fc.tuple(key, value)),
  fc.tuple(fc.constant('setAttributes'), fc.tuple(fc.oneof(attributes, nothing))),
  fc.tuple(fc.constant('addEvent'), fc.tuple(fc.string(), attributes, time)),
  fc.tuple(fc.constant('addEvent'), fc.tuple(fc.string(), time)),
  fc.tuple(fc.constant('addLink'), fc.tuple(link)),
  fc.tuple(fc.constant('addLinks'), fc.tuple(fc.array(link, { maxLength: 3 }))),
  fc.tuple(
    fc.constant('setStatus'),
    fc.tuple(fc.record({ code: fc.nat(2), message: scalar }, { requiredKeys: ['code'] }))
  ),
  fc.tuple(fc.constant('updateName'), fc.tuple(fc.string())),
  fc.tuple(fc.constant('recordException'), fc.tuple(fc.oneof(exception, nothing), time))
)

function kept(span: ReadableSpan) {
  return {
    name: span.name,
    status: span.status,
    attributes: withoutNothing(span.attributes),
    // Milliseconds, because the two keep their clocks by different means.
    events: span.events.map(({ name, time, attributes = {}, droppedAttributesCount = 0 }) => ({
      name,
      attributes,
      droppedAttributesCount,
      ms: hrTimeToMilliseconds(time).toFixed(2)
    })),
    // Left out or empty means the same on the wire.
    links: span.links.map(({ attributes = {}, droppedAttributesCount = 0 }) => ({
      attributes,
      droppedAttributesCount
    })),
    dropped: [span.droppedAttributesCount, span.droppedEventsCount, span.droppedLinksCount]
  }
}

function withoutNothing(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))
}

function isReadable(span: Span | undefined): span is Span & ReadableSpan {
  return span !== undefined && 'events' in span
}

for (const length of ['10', '0']) {
  test(`the server span keeps what a span of the SDK would keep, within the same limits and a length of ${length}`, async (t) => {
    withEnv(t, {
      OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: '14',
      OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: length,
      OTEL_SPAN_EVENT_COUNT_LIMIT: '2',
      OTEL_SPAN_LINK_COUNT_LIMIT: '2',
      OTEL_SPAN_ATTRIBUTE_PER_EVENT_COUNT_LIMIT: '2',
      OTEL_SPAN_ATTRIBUTE_PER_LINK_COUNT_LIMIT: '2'
    })
    let calls: [string, unknown[]][] = []
    const { app } = await traced(t, (app) => {
      app.get('/orders/:id', async ({ span }) => {
        if (!isReadable(span)) throw new Error('no server span')
        const beginning = { kind: SpanKind.SERVER, attributes: withoutNothing(span.attributes) }
        const sdk = trace.getTracer('sdk').startSpan(span.name, beginning)
        if (!isReadable(sdk)) throw new Error('no span of the SDK')
        for (const [method, args] of calls) {
          for (const one of [span, sdk]) Reflect.apply(Reflect.get(one, method), one, structuredClone(args))
        }
        return [kept(span), kept(sdk)]
      })
    })
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 12 }), async (given) => {
        calls = given
        const [ours, sdks] = (await app.inject('/orders/7')).json()
        t.same(ours, sdks)
      }),
      { numRuns: 300 }
    )
  })
}

test('keeps a list as it was when it was set, and an event without a name', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span }) => {
      const list = [1]
      span?.setAttribute('list', list)
      list.push(2)
      if (span) Reflect.apply(span.addEvent, span, [undefined])
    })
  })
  await app.inject('/')
  const [{ attributes, events } = {}] = await spansOf(app, collector)
  t.same(attributes?.list, [1])
  t.match(events, [{ name: 'undefined' }, { name: 'http.response.first_byte' }])
})

test('the server span has ended with the request, and takes nothing after that', async (t) => {
  let span: Span | undefined
  const { app, collector } = await traced(t, (app) => {
    app.get('/orders/:id', async (request) => {
      span = request.span
      return 'ok'
    })
  })
  await app.inject('/orders/7')
  t.notOk(span?.isRecording())
  span?.setAttribute('late', 1).addEvent('late').addLink({ context: linked }).setStatus({ code: 2 }).updateName('late')
  span?.recordException('late')
  span?.end()
  const [received, ...others] = await spansOf(app, collector)
  t.same(others, [])
  t.match(received, { name: 'GET /orders/:id', status: 'UNSET', links: [] })
  t.notMatch(JSON.stringify(received), 'late')
})

test('the server span is active in the request, with what others put beside it', async (t) => {
  const own = Symbol('own')
  const { app } = await traced(t, (app) => {
    app.get('/', async ({ span }) => {
      const active = context.active()
      const further = active.setValue(own, 7)
      return [
        trace.getSpan(active) === span,
        active.getValue(own) ?? 'none',
        [further.getValue(own), trace.getSpan(further) === span],
        [further.deleteValue(own).getValue(own) ?? 'none', trace.getSpan(trace.deleteSpan(active)) ?? 'none'],
        await context.with(further, async () => context.active().getValue(own))
      ]
    })
  })
  t.same((await app.inject('/')).json(), [true, 'none', [7, true], ['none', 'none'], 7])
  t.equal(context.active().getValue(own), undefined)
})

test('each span has ids of its own', async (t) => {
  const { app } = await traced(t, (app) => app.get('/', async ({ span }) => span?.spanContext()))
  const roots = await Promise.all(Array.from({ length: 1_000 }, async () => (await app.inject('/')).json()))
  t.equal(new Set(roots.map(({ traceId }) => traceId)).size, 1_000)
  t.equal(new Set(roots.map(({ spanId }) => spanId)).size, 1_000)
  t.ok(roots.every(({ traceId, spanId }) => /^[\da-f]{32}$/.test(traceId) && /^[\da-f]{16}$/.test(spanId)))
  const child = (await app.inject({ url: '/', headers: { traceparent: TRACEPARENT } })).json()
  t.equal(child.traceId, TRACEPARENT.split('-')[1])
  t.not(child.spanId, TRACEPARENT.split('-')[2])
})

test('names the host that each request asks for', async (t) => {
  const { app, collector } = await traced(t, (app) => app.get('/', async () => 'ok'))
  for (const host of ['a.example', 'b.example']) await app.inject({ url: '/', headers: { host } })
  const spans = await spansOf(app, collector)
  t.same(
    spans.map(({ attributes }) => attributes['server.address']),
    ['a.example', 'b.example']
  )
})

test('names none where trustProxy throws', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const trustProxy = (): never => {
    throw new Error('no')
  }
  const app = Fastify({ trustProxy })
  await app.register(tracing, { endpoint: collector.url, shutdownTimeoutMs: PATIENCE_MS })
  app.get('/', async () => 'ok')
  await app.inject({ url: '/', headers: { 'x-forwarded-host': 'a.example', 'x-forwarded-for': '192.0.2.1' } })
  t.match(await spansOf(app, collector), [{ name: 'GET /', attributes: { 'server.address': undefined } }])
})
