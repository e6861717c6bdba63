import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'
import { test } from 'tap'
import { isOwn, takeEnds } from './ends.ts'

test('with a tracer provider of the user’s too', async (t) => {
  const exporter = new InMemorySpanExporter()
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  provider.register()
  t.teardown(() => provider.shutdown())
  const ends = await takeEnds()
  t.equal(ends.filter(isOwn).length, 400)
  const spans = exporter.getFinishedSpans()
  const parents = new Map(spans.map((span) => [span.spanContext().spanId, span.parentSpanContext?.spanId]))
  t.equal(ends.filter(({ below, span }) => parents.get(below) === span?.spanId).length, 400)
})
