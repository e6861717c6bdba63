import { once } from 'node:events'
import http from 'node:http'
import { buffer } from 'node:stream/consumers'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import {
  type Attributes,
  type HrTime,
  type Link,
  ROOT_CONTEXT,
  type SpanOptions,
  type TraceState,
  trace
} from '@opentelemetry/api'
import { TraceState as W3CTraceState } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import fc from 'fast-check'
import { test } from 'tap'
import { Batch } from '../src/encoding/batch.ts'
import { encodeSpan } from '../src/encoding/span.ts'
import { exportSpans } from '../src/index.ts'
import { produce } from './producer.ts'

const upstream = Reflect.get(new OTLPTraceExporter(), '_delegate')._serializer

function batchOf(spans: ReadableSpan[]): Batch {
  const batch = new Batch()
  for (const span of spans) batch.add(span.resource, span.instrumentationScope, encodeSpan(span))
  return batch
}

function encodeSpans(spans: ReadableSpan[]): Uint8Array {
  const batch = batchOf(spans)
  const { body, release } = batch.encode()
  const encoded = Uint8Array.from(body)
  release()
  batch.release()
  return encoded
}

function isAsUpstreams(encoded: Uint8Array, spans: ReadableSpan[]): boolean {
  return Buffer.compare(encoded, upstream.serializeRequest(spans)) === 0
}

// Half of a surrogate pair too, and long enough for lengths of one, two and three bytes.
const character = fc.oneof(fc.nat(0x7f), fc.nat(0xffff)).map((code) => String.fromCharCode(code))
const text = fc.oneof(
  fc.string(),
  fc.string({ unit: character }),
  fc.string({ unit: 'grapheme' }),
  fc.tuple(fc.string({ unit: character, minLength: 1 }), fc.nat(4_000)).map(([unit, times]) => unit.repeat(times))
)
const number = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(-0, 2 ** 53 + 2, 2 ** 63, -(2 ** 63), -(2 ** 63) - 2048, 2 ** 63 - 1024, 2 ** 64, -(2 ** 32))
)
const nothing = fc.constantFrom(null, undefined)
const value = fc.oneof(
  text,
  number,
  fc.boolean(),
  nothing,
  ...[text, number, fc.boolean()].map((item) => fc.array(fc.oneof(item, nothing), { maxLength: 5 }))
)
// Few keys and values too, which come again.
const key = fc.oneof(fc.constantFrom('http.route', 'a', 'é', '__proto__', '1'), text)
const attributes = fc.dictionary(key, fc.oneof(value, fc.constantFrom(200, '200', true, '/orders/:id')), { maxKeys: 8 })
const anything = fc.dictionary(key, fc.oneof(value, fc.uint8Array(), fc.anything({ withBigInt: true })), { maxKeys: 5 })

const time = fc.tuple(fc.nat(18_446_744_072), fc.nat(999_999_999)).map(([s, n]): HrTime => [s, n])
const hexadecimal = (length: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEF'), minLength: length, maxLength: length })
const context = fc.record(
  {
    traceId: hexadecimal(32),
    spanId: hexadecimal(16),
    traceFlags: fc.nat(255),
    isRemote: fc.boolean(),
    traceState: fc.constantFrom('', 'a=1', 'tenant@vendor=7,congo=t61').map((state) => new W3CTraceState(state))
  },
  { requiredKeys: ['traceId', 'spanId', 'traceFlags'] }
)
type Scope = [name: string, version?: string, options?: { schemaUrl: string }]
const described = fc.record({
  provider: fc.nat(1),
  scope: fc.constantFrom<Scope[]>(['orders'], ['orders', '1.2.3'], ['é', '1', { schemaUrl: 'https://example.com/1' }]),
  name: text,
  kind: fc.nat(4),
  parent: fc.option(context),
  attributes,
  links: fc.array(fc.record({ context, attributes }, { requiredKeys: ['context'] }), { maxLength: 4 }),
  events: fc.array(fc.tuple(text, attributes, time), { maxLength: 4 }),
  status: fc.record({ code: fc.nat(2), message: text }, { requiredKeys: ['code'] }),
  startTime: time,
  endTime: time
})
const batch = fc.record({
  resources: fc.tuple(anything, anything),
  schemaUrl: fc.constantFrom('', 'https://opentelemetry.io/schemas/1.40.0'),
  spans: fc.array(described, { maxLength: 6 })
})
type Described = typeof batch extends fc.Arbitrary<infer One> ? One : never

/** Spans of the SDK, which drops some of what it is given. */
function spansOf({ resources, schemaUrl, spans }: Described): ReadableSpan[] {
  const memory = new InMemorySpanExporter()
  const providers = resources.map(
    (of) =>
      new TracerProvider({
        resource: resourceFromAttributes(of as Attributes, { schemaUrl }),
        spanLimits: {
          attributeCountLimit: 6,
          eventCountLimit: 3,
          linkCountLimit: 3,
          attributePerEventCountLimit: 4,
          attributePerLinkCountLimit: 4
        },
        spanProcessors: [new SimpleSpanProcessor({ exporter: memory })]
      })
  )
  for (const { provider, scope, name, parent, events, status, endTime, ...options } of spans) {
    const active = parent ? trace.setSpanContext(ROOT_CONTEXT, { ...parent, traceFlags: 1 }) : ROOT_CONTEXT
    const tracer = providers[provider]?.getTracer(...scope)
    const span = tracer?.startSpan(name, options as SpanOptions, active)
    for (const [event, pairs, at] of events) span?.addEvent(event, pairs as Attributes, at)
    span?.setStatus(status)
    span?.end(endTime)
  }
  return memory.getFinishedSpans()
}

test('makes the same bytes as upstream of whatever the SDK takes', async (t) => {
  let compared = 0
  fc.assert(
    fc.property(batch, (one) => {
      const spans = spansOf(one)
      compared += spans.length
      return isAsUpstreams(encodeSpans(spans), spans)
    }),
    { numRuns: 300 }
  )
  t.ok(compared > 300, `${compared} spans`)
})

test('makes the same bytes of values that come again, change and return', async (t) => {
  const different: number[] = []
  const values = ['GET', 'POST', 0, -0, 1, '1', true, [1], Number.NaN, 'é'.repeat(200)]
  for (let round = 0; round < 500; round++) {
    const given = Object.fromEntries(values.map((_, index) => [`key ${index}`, values[(index + (round >> 7)) % 10]]))
    const spans = spansOf({ resources: [{ round }, {}], schemaUrl: '', spans: [{ ...plain, attributes: given }] })
    if (!isAsUpstreams(encodeSpans(spans), spans)) different.push(round)
  }
  t.same(different, [])
})

test('makes the same bytes of attributes that stand beside the others', async (t) => {
  let compared = 0
  fc.assert(
    fc.property(attributes, fc.nat(2), (given, times) => {
      const [span] = spansOf({ resources: [{}, {}], schemaUrl: '', spans: [{ ...plain, attributes: given }] })
      if (!span) return false
      const beside = Object.create(span, {
        attributes: { value: {} },
        added: { value: { first: chainOf(Object.entries(span.attributes)) } }
      })
      const encoded = Array.from({ length: times + 1 }, () => encodeSpan(beside))
      compared += encoded.length
      return encoded.every((content) => content === encodeSpan(span))
    }),
    { numRuns: 300 }
  )
  t.ok(compared > 300, `${compared} spans`)
})

function chainOf(attributes: [string, unknown][]): object | undefined {
  return attributes.reduceRight<object | undefined>((next, [name, value]) => ({ name, value, next }), undefined)
}

test('makes the same bytes of a batch that outgrows its buffer, and of the next one', async (t) => {
  const spans = spansOf({ resources: [{}, {}], schemaUrl: '', spans: [plain, { ...plain, name: 'x€'.repeat(3e6) }] })
  t.ok(isAsUpstreams(encodeSpans(spans), spans))
  const next = Array.from({ length: 1_000 }, () => spans.slice(0, 1)).flat()
  t.ok(isAsUpstreams(encodeSpans(next), next))
})

test('hands out bytes that other batches leave alone', async (t) => {
  const of = (name: string) => spansOf({ resources: [{}, {}], schemaUrl: '', spans: [{ ...plain, name }] })
  const first = of('first')
  const encoded = batchOf(first).encode().body
  encodeSpans(of('other'))
  t.ok(isAsUpstreams(encoded, first))
})

const plain: Described['spans'][number] = {
  provider: 0,
  scope: ['orders'],
  name: 'GET /orders/:id',
  kind: 1,
  parent: null,
  attributes: {},
  links: [],
  events: [],
  status: { code: 0 },
  startTime: [1_790_000_000, 1],
  endTime: [1_790_000_000, 2]
}

/** A link that says how often it is read, and can fail at first. */
function readLink(failures = 0): Link & { reads: number } {
  const link = {
    reads: 0,
    context: {
      traceId: '1'.repeat(32),
      spanId: '2'.repeat(16),
      traceFlags: 1,
      traceState: {
        serialize() {
          if (link.reads++ < failures) throw new Error('not yet')
          return 'a=1'
        }
      } as TraceState
    }
  }
  return link
}

async function exported(endpoint: string, link: Link): Promise<void> {
  const { processor } = exportSpans({ endpoint, shutdownTimeoutMs: PATIENCE_MS, log: { warn: () => undefined } })
  const provider = new TracerProvider({ spanProcessors: [processor] })
  provider
    .getTracer('test')
    .startSpan('linked', { links: [link] })
    .end()
  await provider.shutdown()
}

// Upstream's reads twice.
test('is what is sent over gRPC', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const link = readLink()
  await exported(collector.url, link)
  t.same(collector.spans[0]?.links, [{ traceId: '1'.repeat(32), spanId: '2'.repeat(16) }])
  t.equal(link.reads, 1)
})

test('is what is sent over HTTP', async (t) => {
  withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' })
  const bodies: Buffer[] = []
  const server = http.createServer(async (request, response) => {
    bodies.push(await buffer(request))
    response.end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  const link = readLink()
  await exported(`http://127.0.0.1:${typeof address === 'object' && address?.port}`, link)
  t.equal(link.reads, 1)
  t.ok(bodies[0]?.includes('linked'))
})

test('counts what it cannot encode, and goes on', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const producer = produce(collector.url)
  producer.end(1)
  producer.tracer.startSpan('linked', { links: [readLink(1)] }).end()
  producer.end(1)
  await producer.close()
  t.same(producer.counts(), { exported: 2, not_encodable: 1 })
  t.equal(collector.spans.length, 2)
})
