// A service whose own OpenTelemetry set-up opens the server spans.

import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node'

const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new OTLPTraceExporter())] })
provider.register()
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
