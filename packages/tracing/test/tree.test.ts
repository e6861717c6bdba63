import { ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { TracerProvider } from '@opentelemetry/sdk-trace'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import tracing, { withSpan } from '../src/index.ts'
import { printTraces } from '../src/processing/tree.ts'
import { withEnv } from './traced.ts'

function printing(t: Test) {
  const texts: string[] = []
  const provider = new TracerProvider({ spanProcessors: [printTraces((text) => texts.push(text))] })
  t.teardown(() => provider.shutdown())
  return { texts, provider, tracer: provider.getTracer('test') }
}

test('OTEL_TRACES_EXPORTER=console writes each trace as a tree to standard error', async (t) => {
  withEnv(t, { OTEL_TRACES_EXPORTER: 'console' })
  const written = t.capture(process.stderr, 'write', () => true)
  const app = Fastify()
  await app.register(tracing)
  app.get('/boom', async () => {
    await withSpan('first', async () => withSpan('inner\u001b[2J', () => 'ok'))
    await withSpan('second', async () => Promise.reject(new TypeError('no')))
  })
  await app.inject('/boom')
  await app.close()
  const lines = written().flatMap(({ args }) =>
    String(args[0])
      .replaceAll(/\d+\.\d ms/g, '* ms')
      .split('\n')
  )
  t.match(lines.shift(), /^trace [0-9a-f]{32}$/)
  t.same(lines, [
    '└─ SERVER  GET /boom  * ms  ERROR  http.response.status_code=500 error.type=TypeError',
    '   ├─ INTERNAL  first  * ms',
    '   │  └─ INTERNAL  inner  * ms',
    '   └─ INTERNAL  second  * ms  ERROR  error.type=TypeError',
    ''
  ])
})

test('waits for the last span of a trace, and says at the end what has not ended', async (t) => {
  const { texts, tracer, provider } = printing(t)
  const root = tracer.startSpan('root')
  const child = tracer.startSpan('child', {}, trace.setSpan(ROOT_CONTEXT, root))
  root.end()
  t.same(texts, [])
  await provider.shutdown()
  t.match(texts, [/root.*\n1 spans have not ended\n/])
  child.end()
})

test('keeps no more than 1,000 traces and 500 spans of each', async (t) => {
  const { texts, tracer } = printing(t)
  for (let index = 0; index < 1_001; index++) tracer.startSpan('never ended')
  t.equal(texts.length, 1)
  const root = tracer.startSpan('root')
  const below = trace.setSpan(ROOT_CONTEXT, root)
  for (let index = 0; index < 600; index++) tracer.startSpan('child', {}, below).end()
  root.end()
  t.match(texts.at(-1), /101 more spans/)
})

test('disturbs nobody when the terminal has gone', async (t) => {
  const gone = (): never => {
    throw new Error('EIO')
  }
  const tracer = new TracerProvider({ spanProcessors: [printTraces(gone)] }).getTracer('test')
  t.doesNotThrow(() => tracer.startSpan('a').end())
})
