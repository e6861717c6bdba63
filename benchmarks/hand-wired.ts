import FastifyOtel from '@fastify/otel'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { NodeSDK } from '@opentelemetry/sdk-node'
import type { FastifyInstance } from 'fastify'

/** The same signals from the packages that people put together themselves, set up as their pages say. */
export async function build(endpoint: string): Promise<FastifyInstance> {
  const sdk = new NodeSDK({
    serviceName: 'users',
    traceExporter: new OTLPTraceExporter({ url: endpoint }),
    instrumentations: [
      new HttpInstrumentation(),
      new FastifyOtel.FastifyOtelInstrumentation({ registerOnInitialization: true })
    ]
  })
  sdk.start()

  // Only what is loaded from here on is instrumented.
  const { default: Fastify } = await import('fastify')
  const { default: underPressure } = await import('@fastify/under-pressure')
  const { default: fastifyMetrics } = await import('fastify-metrics')
  const app = Fastify({ logger: true })
  await app.register(fastifyMetrics.default, { endpoint: '/metrics' })
  await app.register(underPressure, {
    maxEventLoopDelay: Number.POSITIVE_INFINITY,
    maxRssBytes: 4 * 1024 ** 3,
    exposeStatusRoute: '/health'
  })
  return app
}
