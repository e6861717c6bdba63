import { fork } from 'node:child_process'
import { once } from 'node:events'
import { startCollector } from '@fastify-observability/testing/collector'
import { type Test, test } from 'tap'
import { named } from './traced.ts'

/** The spans of a service that traces by itself, after these requests. */
async function spansOfForeign(t: Test, paths: string[]) {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const child = fork(new URL('foreign.ts', import.meta.url), {
    env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
  })
  const [url] = await once(child, 'message')
  for (const path of paths) await (await fetch(`${url}${path}`)).text()
  child.disconnect()
  await once(child, 'exit')
  return collector.spans
}

test('completes the server span that another instrumentation has opened, and starts none', async (t) => {
  const spans = await spansOfForeign(t, ['/orders/7?token=planted', '/boom', '/nowhere'])
  const servers = spans.filter(({ kind }) => kind === 'SERVER')
  t.same(servers.map(({ name }) => name).toSorted(), ['GET', 'GET /boom', 'GET /orders/:id'])
  t.match(named(spans, 'GET /orders/:id'), {
    scope: '@opentelemetry/instrumentation-http',
    status: 'UNSET',
    attributes: { 'http.route': '/orders/:id', 'request.id': 'req-1', 'http.response.status_code': 200 }
  })
  t.match(named(spans, 'mine'), { parentSpanId: named(spans, 'GET /orders/:id').spanId })
  // The instrumentation writes its own type when it ends the span: the status.
  t.match(named(spans, 'GET /boom'), { status: 'ERROR', attributes: { 'error.type': '500' } })
  t.match(named(spans, 'GET /boom').events.at(-1), { name: 'exception' })
  t.notMatch(JSON.stringify(spans), 'password=planted')
})

test('a request injected by a handler has a span of its own below it', async (t) => {
  const spans = await spansOfForeign(t, ['/inside'])
  const outer = named(spans, 'GET /inside')
  const inner = named(spans, 'GET /orders/:id')
  t.match(inner, { kind: 'SERVER', parentSpanId: outer.spanId, scope: '@fastify-observability/tracing' })
})

test('beside a provider of the application it leaves calls to the instrumentations of the application', async (t) => {
  const child = fork(new URL('own-provider.ts', import.meta.url))
  const [said] = await once(child, 'message')
  t.same(said, { traceparents: 1, spans: ['GET', 'GET /'] })
})
