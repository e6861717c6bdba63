import FastifyOtel from '@fastify/otel'
import { trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { NodeSDK } from '@opentelemetry/sdk-node'
import { Counter, register } from '@prometheus-io/client'
import type { FastifyInstance } from 'fastify'
import type { Tools } from './work.ts'

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

export const tools: Tools = {
  withSpan: (name, fn) =>
    trace.getTracer('users').startActiveSpan(name, (span) => {
      fn()
      span.end()
    }),
  counter(name) {
    const known = register.getSingleMetric(name)
    return known instanceof Counter ? known : new Counter({ name, help: 'Items.', labelNames: ['item'] })
  }
}
