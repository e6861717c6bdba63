import { test } from 'tap'
import { spansOf, traced } from './traced.ts'

process.env.OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS = 'GET, PROPFIND'

test('OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS names the methods that are known, and no others are', async (t) => {
  const { app, collector } = await traced(t)
  const methods = ['GET', 'POST', 'DELETE'] as const
  for (const method of methods) await app.inject({ method, url: '/' })
  const spans = await spansOf(app, collector)
  t.same(
    spans.map(({ attributes }) => attributes['http.request.method']),
    ['GET', '_OTHER', '_OTHER']
  )
})
