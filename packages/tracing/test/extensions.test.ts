import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { BatchSpanProcessor, type ReadableSpan, SamplingDecision, type SpanProcessor } from '@opentelemetry/sdk-trace'
import Fastify from 'fastify'
import { test } from 'tap'
import tracing, { type TracingOptions, withSpan } from '../src/index.ts'
import { spansOf, traced } from './traced.ts'

async function spansWith(options: TracingOptions, paths = ['/orders/7?token=planted']): Promise<ReadableSpan[]> {
  const spans: ReadableSpan[] = []
  const last: SpanProcessor = {
    onStart: () => undefined,
    onEnd: (span) => void spans.push(span),
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  }
  const app = Fastify()
  await app.register(tracing, {
    shutdownTimeoutMs: PATIENCE_MS,
    ...options,
    spanProcessors: [...(options.spanProcessors ?? []), last]
  })
  app.get('/orders/:id', async () => withSpan('inner', { note: 'password=planted' }, () => 'ok'))
  for (const path of paths) await app.inject(path)
  await app.close()
  return spans
}

test('gives processors of your own every span, without its secrets', async (t) => {
  const spans = await spansWith({})
  t.same(
    spans.map(({ name }) => name),
    ['inner', 'GET /orders/:id']
  )
  t.notMatch(JSON.stringify(spans.map(({ attributes }) => attributes)), 'planted')
})

test('shows a processor the server span as one of the SDK, without attributes that have no value', async (t) => {
  const begun: unknown[] = []
  const processor: SpanProcessor = {
    onStart: ({ attributes }) => void begun.push(...Object.values(attributes)),
    onEnd: ({ attributes }) => void Object.assign(attributes, { added: true }),
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  }
  const [, server] = await spansWith({ spanProcessors: [processor] })
  t.notOk(begun.includes(undefined))
  t.notOk(Object.values(server?.attributes ?? {}).includes(undefined))
  t.match(server?.attributes, { added: true, 'http.response.status_code': 200 })
})

test('shows a processor the fields of a request as attributes, which it may change', async (t) => {
  const seen: unknown[] = []
  const processor: SpanProcessor = {
    onStart: () => undefined,
    onEnding: (span) => void span.setAttribute('plan', 'free'),
    onEnd: ({ attributes }) => void seen.push(attributes),
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  }
  const app = Fastify()
  await app.register(tracing, { spanProcessors: [processor] })
  app.get('/', async ({ observation }) => observation.add({ plan: 'pro', 'user.id': 7, note: 'password=planted' }))
  await app.inject('/')
  await app.close()
  t.match(seen, [{ plan: 'free', 'user.id': 7, note: 'password=[redacted]', 'http.route': '/' }])
})

test('sets the fields of a request in the place of what was set before', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span, observation }) => {
      span?.setAttribute('plan', 'free')
      observation.add({ plan: 'pro', 'user.id': 7 })
    })
  })
  await app.inject('/')
  const [span] = await spansOf(app, collector)
  t.match(span?.attributes, { plan: 'pro', 'user.id': 7 })
})

test('sends the same spans to a second collector by an exporter of OpenTelemetry', async (t) => {
  const [first, second] = await Promise.all([startCollector(), startCollector()])
  t.teardown(() => Promise.all([first.close(), second.close()]))
  const exporter = new OTLPTraceExporter({ url: second.url })
  await spansWith({ endpoint: first.url, spanProcessors: [new BatchSpanProcessor({ exporter })] })
  t.equal(first.spans.length, 2)
  t.same(second.spans, first.spans)
})

test('survives a processor that throws', async (t) => {
  const fail = (): never => {
    throw new Error('in the processor')
  }
  const processor = { onStart: fail, onEnd: fail, forceFlush: async () => fail(), shutdown: async () => fail() }
  t.equal((await spansWith({ spanProcessors: [processor] })).length, 2)
})

test('asks a sampler of your own about each span', async (t) => {
  const names: string[] = []
  const sampler = {
    shouldSample(_context: unknown, _traceId: string, name: string) {
      names.push(name)
      return { decision: SamplingDecision.NOT_RECORD }
    }
  }
  t.same(await spansWith({ sampler }), [])
  t.same(names, ['GET /orders/:id', 'inner'])
})

test('records what a sampler of your own throws at', async (t) => {
  const sampler = {
    shouldSample(): never {
      throw new Error('in the sampler')
    }
  }
  t.equal((await spansWith({ sampler })).length, 2)
})

test('adds attributes of the service to the resource', async (t) => {
  const [span] = await spansWith({ service: { name: 'shop', attributes: { 'service.namespace': 'eu', shard: 3 } } })
  t.match(span?.resource.attributes, { 'service.name': 'shop', 'service.namespace': 'eu', shard: 3 })
})

test('names its version in the scope of its spans', async (t) => {
  const [inner, server] = await spansWith({})
  t.match(server?.instrumentationScope, { name: '@fastify-observability/tracing', version: /^\d+\.\d+\.\d+/ })
  t.same(inner?.instrumentationScope.version, server?.instrumentationScope.version)
})

for (const [option, value] of Object.entries({ spanProcessors: [{}], sampler: {} })) {
  test(`refuses an invalid ${option}`, async (t) => {
    const register = async () => Fastify().register(tracing, Object.assign({}, { [option]: value }))
    await t.rejects(register, new RegExp(`option "${option}.*must be an OpenTelemetry s`))
  })
}
