// A service whose own OpenTelemetry set-up opens the server spans.
import { context, propagation, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'

const provider = new TracerProvider({
  spanProcessors: [new SimpleSpanProcessor({ exporter: new OTLPTraceExporter() })]
})
trace.setGlobalTracerProvider(provider)
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
propagation.setGlobalPropagator(new W3CTraceContextPropagator())
new HttpInstrumentation().setTracerProvider(provider)

const { default: Fastify } = await import('fastify')
const { default: tracing, withSpan } = await import('../src/index.ts')
const app = Fastify()
await app.register(tracing)
app.get('/orders/:id', async () => withSpan('mine', () => 'ok'))
app.get('/boom', async () => Promise.reject(new TypeError('boom: password=planted')))
app.get('/inside', async () => (await app.inject('/orders/8')).body)
process.send?.(await app.listen({ port: 0, host: '127.0.0.1' }))
process.once('disconnect', async () => {
  await app.close()
  await provider.shutdown()
})
