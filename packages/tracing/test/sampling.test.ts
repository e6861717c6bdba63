import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { registryOf } from '@fastify-observability/observation/internal'
import { context, ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api'
import { type Sampler, type SamplingDecision, TraceIdRatioBasedSampler } from '@opentelemetry/sdk-trace'
import fc from 'fast-check'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import tracing, { type TracingOptions, withSpan } from '../src/index.ts'
import { createSampler } from '../src/sampler.ts'
import { spansOf, TRACE_ID, TRACEPARENT, traced, withEnv } from './traced.ts'

function declare(app: FastifyInstance): void {
  app.get('/', async ({ span }) => span?.isRecording())
}

test('records the share of its own traces that sampleRatio says, the option before the environment', async (t) => {
  withEnv(t, { OTEL_TRACES_SAMPLER: 'always_on' })
  for (const [sampleRatio, least, most] of [
    [0, 0, 0],
    [0.1, 15, 95],
    [1, 500, 500]
  ] as const) {
    const { app, collector } = await traced(t, declare, { sampleRatio })
    for (let request = 0; request < 500; request++) await app.inject('/')
    const { length } = await spansOf(app, collector)
    t.ok(length >= least && length <= most, `${length} of 500 with ${sampleRatio}`)
  }
})

test('follows the decision of a trusted caller, whatever the ratio', async (t) => {
  for (const [flags, recorded] of [
    ['01', 1],
    ['00', 0]
  ] as const) {
    const { app, collector } = await traced(t, declare, { sampleRatio: recorded === 1 ? 0 : 1 })
    await app.inject({ url: '/', headers: { traceparent: `${TRACEPARENT.slice(0, -2)}${flags}` } })
    t.equal((await spansOf(app, collector)).length, recorded)
  }
})

test('a route has a ratio of its own, which its children follow and a caller overrides', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    for (const ratio of [0, 1])
      app.get(`/${ratio}`, { config: { observability: { trace: { ratio } } } }, async () => 'ok')
    app.get('/', async () => 'ok')
  })
  for (const url of ['/0', '/1', '/']) await app.inject(url)
  await app.inject({ url: '/0', headers: { traceparent: TRACEPARENT } })
  const names = (await spansOf(app, collector)).map(({ name }) => name)
  t.same(names.toSorted(), ['GET /', 'GET /0', 'GET /1'])
})

test('the ratio of a route holds for its children under any sampler', async (t) => {
  withEnv(t, { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' })
  const { app, collector } = await traced(t, (app) => {
    app.get('/', { config: { observability: { trace: { ratio: 1 } } } }, async () => withSpan('child', () => 'ok'))
  })
  await app.inject('/')
  t.same((await spansOf(app, collector)).map(({ name }) => name).toSorted(), ['GET /', 'child'])
})

test('a span of one’s own in a trace that is not sampled is the one around it', async (t) => {
  const { app, collector } = await traced(
    t,
    (app) => {
      app.get('/', async ({ span }) => {
        const boom = new Error('boom')
        await t.rejects(
          withSpan('fails', () => Promise.reject(boom)),
          boom
        )
        return withSpan('outer', { size: 3 }, async (outer) => {
          await turn()
          return withSpan('inner', (inner) => [outer === span, inner === span, trace.getActiveSpan() === span])
        })
      })
    },
    { sampleRatio: 0 }
  )
  t.same((await app.inject('/')).json(), [true, true, true])
  t.same(await spansOf(app, collector), [])
})

test('a sampler of the user’s may record it all the same, and so may one that follows nobody', async (t) => {
  const sampler: Sampler = {
    shouldSample: (_context, _id, name) => ({ decision: name === 'child' ? 2 : 0 }),
    toString: () => 'only children'
  }
  function declare(app: FastifyInstance): void {
    app.get('/', async () => withSpan('child', (span) => span.isRecording()))
  }
  const { app, collector } = await traced(t, declare, { sampler })
  t.equal((await app.inject('/')).json(), true)
  t.same(
    (await spansOf(app, collector)).map(({ name }) => name),
    ['child']
  )

  withEnv(t, { OTEL_TRACES_SAMPLER: 'always_on' })
  const followed = await traced(t, (app) => {
    app.get('/free', async () => {
      const unsampled = trace.wrapSpanContext({ traceId: TRACE_ID, spanId: 'b7ad6b7169203331', traceFlags: 0 })
      return context.with(trace.setSpan(ROOT_CONTEXT, unsampled), () => withSpan('free', (span) => span.isRecording()))
    })
  })
  t.equal((await followed.app.inject('/free')).json(), true)
})

test('understands the samplers that the specification names', async (t) => {
  for (const [sampler, ratio, isRecording] of [
    ['always_on', '', true],
    ['always_off', '', false],
    ['traceidratio', '0', false],
    ['parentbased_always_on', '', true],
    ['parentbased_always_off', '', false],
    ['parentbased_traceidratio', '1', true],
    ['parentbased_traceidratio', '', true],
    ['ParentBased_Always_On', 'of no use here', true]
  ] as const) {
    withEnv(t, { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: ratio })
    const app = Fastify()
    await app.register(tracing)
    declare(app)
    t.equal((await app.inject('/')).json(), isRecording, `${sampler} ${ratio}`)
    await app.close()
  }
})

const NAME = '@fastify-observability/tracing'

test('refuses ratios that do not exist', async (t) => {
  const refused: [TracingOptions, string][] = [
    [{ sampleRatio: 2 }, `${NAME}: option "sampleRatio" must be a number from 0 to 1, got 2`],
    [{ sampleRatio: Number.NaN }, `${NAME}: option "sampleRatio" must be a number from 0 to 1, got NaN`]
  ]
  for (const [options, sentence] of refused) {
    await t.rejects(async () => Fastify().register(tracing, options), new TypeError(sentence))
  }
})

test('reads lists of the environment in any case and with empty entries', async (t) => {
  withEnv(t, { OTEL_PROPAGATORS: 'TraceContext, baggage,', OTEL_TRACES_EXPORTER: 'OTLP' })
  const app = Fastify()
  await app.register(tracing)
  await t.resolves(app.close())
})

test('refuses a route whose trace is neither a boolean nor a ratio', async (t) => {
  const app = Fastify()
  await app.register(tracing)
  t.throws(
    () => app.get('/', { config: { observability: { trace: { ratio: 2 } } } }, async () => 'ok'),
    new TypeError(`${NAME}: option "config.observability.trace.ratio" must be a number from 0 to 1, got 2`)
  )
  await app.close()
})

test('isError decides what is an error, and is survived when it throws', async (t) => {
  const { app, collector } = await traced(
    t,
    (app) => {
      for (const status of [200, 404, 418, 500]) app.get(`/${status}`, async (_, reply) => reply.code(status).send('x'))
    },
    {
      isError({ statusCode }) {
        if (statusCode === 500) throw new Error('in the hook')
        return statusCode === 418
      }
    }
  )
  for (const status of [200, 404, 418, 500]) await app.inject(`/${status}`)
  const spans = await spansOf(app, collector)
  const failed = spans.filter(({ status }) => status === 'ERROR').map(({ name }) => name)
  t.same(failed.toSorted(), ['GET /418', 'GET /500'])
  const errors = registryOf(app).published.find(({ name }) => name === 'observability_observer_errors_total')
  t.same([...(errors?.collect() ?? [])], [[{ observer: NAME }, 1]])
})

test('shows when the headers were written, and lasts as long as the request', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async (_, reply) => {
      reply.raw.writeHead(200)
      await sleep(40)
      reply.raw.end('late')
      return reply.hijack()
    })
  })
  await app.inject('/')
  const [span] = await spansOf(app, collector)
  t.match(span?.events, [{ name: 'http.response.first_byte' }])
  const [event] = span?.events ?? []
  const ttfbMs = (event?.timeMs ?? 0) - (span?.startMs ?? 0)
  t.ok(ttfbMs >= 0 && span && ttfbMs <= span.durationMs - 39, `first byte after ${ttfbMs} of ${span?.durationMs} ms`)
})

test('decides as the SDK does, whatever the ratio and the trace', (t) => {
  const word = fc.integer({ min: 0, max: 0xffffffff })
  const words = fc.tuple(word, word, word, word).filter((id) => id.some((part) => part !== 0))
  const ratio = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0.1, 0.25, 0.5, 1 / 256))
  // The words of an id are combined: these end where the bound is, or next to it.
  const nearOf = (sampleRatio: number) =>
    fc.tuple(word, word, word, fc.integer({ min: -2, max: 2 })).map(([a, b, c, off]) => {
      const bound = Math.min(Math.max(Math.floor(sampleRatio * 0xffffffff) + off, 0), 0xffffffff)
      return [a, b, c, (a ^ b ^ c ^ bound) >>> 0]
    })
  const given = ratio.chain((sampleRatio) => fc.tuple(fc.constant(sampleRatio), fc.oneof(words, nearOf(sampleRatio))))
  const decide = (sampler: Sampler, id: number[]): SamplingDecision => {
    const traceId = id.map((part) => part.toString(16).padStart(8, '0')).join('')
    return sampler.shouldSample(ROOT_CONTEXT, traceId, 'GET /', SpanKind.SERVER, {}, []).decision
  }
  const agrees = fc.property(given, ([sampleRatio, id]) => {
    return (
      decide(createSampler({ sampleRatio, warn: () => undefined }), id) ===
      decide(new TraceIdRatioBasedSampler(sampleRatio), id)
    )
  })
  t.doesNotThrow(() => fc.assert(agrees, { numRuns: 5_000 }))
  t.end()
})
