import { trace } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import { withoutErrorText } from './discretion.ts'

/** Gives the hooks that are added from now on, and the handlers, a span each below the request's. */
export async function traceLifecycle(app: FastifyInstance): Promise<void> {
  const { FastifyInstrumentation } = await import('@opentelemetry/instrumentation-fastify')

  // Never enabled, because that would patch every Fastify that is loaded from now on; this app alone is.
  class LifecycleInstrumentation extends FastifyInstrumentation {
    override isEnabled(): boolean {
      return true
    }
  }
  const instrumentation = new LifecycleInstrumentation({ enabled: false })
  instrumentation.setTracerProvider(withoutErrorText(trace.getTracerProvider()))
  for (const { patch } of instrumentation.getModuleDefinitions()) patch?.({ fastify: () => app })()
}
