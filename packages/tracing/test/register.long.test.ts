import { join } from 'node:path'
import { test } from 'tap'
import { ofScope, PRELOADED, resolve, serve, versionOf } from './served.ts'

test('uses a tracer provider that is already registered, for the server span and for calls', async (t) => {
  const own = ['--import', './test/fixtures/provider.mjs', ...PRELOADED]
  const { spans, said } = await serve(t, 'service.mjs', own)
  t.match(said[0], 'tracing: a tracer provider is already registered and stays')
  t.equal(spans.filter(({ kind }) => kind === 'SERVER').length, 1)
  t.equal(spans.find(({ name }) => name === 'cache')?.parentSpanId, spans.find(({ kind }) => kind === 'SERVER')?.spanId)
  t.ok(ofScope(spans, '-undici').length > 0)
  const { said: without } = await serve(t, 'service.mjs', ['--import', './test/fixtures/provider.mjs'])
  t.match(without[1], /register`: pg, ioredis, @redis\/client;/, 'whose own instrumentations see databases')
})

test('gives hooks and handlers spans of their own when asked to, with and without the preload', async (t) => {
  const asked = await Promise.all([
    serve(t, 'service.mjs', [], { TRACING_OPTIONS: '{"lifecycleSpans":true}' }),
    serve(t, 'service.cjs', PRELOADED, { TRACE_LIFECYCLE_SPANS: 'true' })
  ])
  for (const { spans } of asked) {
    t.same(
      ofScope(spans, '-fastify').map(({ name, kind, attributes }) => [kind, name, attributes['hook.name']]),
      [
        ['INTERNAL', 'middleware - authenticate', 'onRequest'],
        ['INTERNAL', 'middleware - loadUser', 'preHandler'],
        ['INTERNAL', 'request handler - getOrder', undefined]
      ]
    )
    t.equal(spans.filter(({ kind }) => kind === 'SERVER').length, 1)
    const handler = spans.find(({ name }) => name.startsWith('request handler'))
    const cache = spans.find(({ name }) => name === 'cache')
    t.equal(cache?.parentSpanId, handler?.spanId)
    t.ok((handler?.durationMs ?? 0) >= (cache?.durationMs ?? 0), 'lasts until the answer')
  }
})

test('gives hooks and handlers no spans unless asked to, and the option wins', async (t) => {
  const refusing = { TRACE_LIFECYCLE_SPANS: 'true', TRACING_OPTIONS: '{"lifecycleSpans":false}' }
  const off = await Promise.all([{}, refusing].map((env) => serve(t, 'service.mjs', PRELOADED, env)))
  for (const { spans } of off) t.same(ofScope(spans, '-fastify'), [])
})

test('does nothing when OpenTelemetry is switched off', async (t) => {
  const { spans, said } = await serve(t, 'service.mjs', PRELOADED, {
    OTEL_SDK_DISABLED: 'TRUE',
    TRACE_LIFECYCLE_SPANS: 'true'
  })
  t.same({ spans, said }, { spans: [], said: [] })
})

test('says at start-up that a client loaded too early for the preload is seen by its channels', async (t) => {
  const { said } = await serve(t, 'early.cjs', [], { LOADED_EARLY: 'redis' })
  t.match(
    said[1],
    `ioredis ${versionOf('ioredis')}; seen by their diagnostics channels: redis ${versionOf('redis')}; loaded`
  )
})

test('says at start-up which versions of a client nobody sees', async (t) => {
  const folder = t.testdir({
    node_modules: {
      ioredis: { 'index.js': '', 'package.json': '{"version":"5.10.1"}' },
      mysql2: { 'index.js': '', 'package.json': '{"version":"3.19.0"}' }
    },
    'loads.cjs': "require('ioredis'); require('mysql2')"
  })
  const { said } = await serve(t, 'early.cjs', [], { ALSO_LOADS: join(folder, 'loads.cjs'), WITHOUT_PRELOAD: 'true' })
  t.match(
    said[1],
    'that is not supported: mysql2 3.19.0; only with `node --import fastify-observability/register`: pg, ioredis;'
  )
})

test('says at start-up what was loaded too early, and what has not been loaded', async (t) => {
  const { said } = await serve(t, 'early.cjs', [])
  const early = 'not loaded so far: redis; loaded too early to be instrumented: pg'
  const [ioredis, api] = ['ioredis', '@opentelemetry/api'].map(versionOf)
  t.equal(
    said[1],
    `30 tracing: instrumented: http, undici, ioredis ${ioredis}; ${early}; one copy of @opentelemetry/api: ${api}`
  )
})

test('adds the instrumentations that TRACE_INSTRUMENTATIONS names, and warns of those that are not installed', async (t) => {
  const folder = t.testdir({
    'own.cjs': `const { InstrumentationBase } = require(${JSON.stringify(resolve('@opentelemetry/instrumentation'))})
      exports.OwnInstrumentation = class extends InstrumentationBase {
        constructor() { super('own', '1.0.0', {}) }
        init() { return [] }
      }`
  })
  const names = `${join(folder, 'own.cjs')}, pg, nowhere, @opentelemetry/instrumentation-fastify`
  const { said } = await serve(t, 'service.mjs', PRELOADED, { TRACE_INSTRUMENTATIONS: names })
  t.match(said[1], /instrumented: http, undici, pg [\d.]+, ioredis [\d.]+, redis [\d.]+, own;/)
  t.same(said.slice(2), [
    '40 tracing: TRACE_INSTRUMENTATIONS: pg exports no instrumentation',
    "40 tracing: TRACE_INSTRUMENTATIONS: nowhere cannot be loaded: Error: Cannot find module 'nowhere'",
    '40 tracing: TRACE_INSTRUMENTATIONS: set TRACE_LIFECYCLE_SPANS=true instead of naming @opentelemetry/instrumentation-fastify'
  ])
})
