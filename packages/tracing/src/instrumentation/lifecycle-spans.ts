import {
  currentScope,
  documented,
  type RequestObservation,
  registryOf
} from '@fastify-observability/observation/internal'
import { type Span, type Tracer, type TracerProvider, trace } from '@opentelemetry/api'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import { SCOPE } from '../span.ts'
import { hideErrorText } from './error-hiding.ts'
import { observingStarts } from './started-spans.ts'

/** Gives the hooks and the handlers that are added from now on a span each, below the request's. */
export async function traceLifecycle(app: FastifyInstance): Promise<void> {
  const { FastifyInstrumentation } = await load()

  // Never enabled, because that would patch every Fastify that is loaded from now on; this app alone is.
  class LifecycleInstrumentation extends FastifyInstrumentation {
    override isEnabled(): boolean {
      return true
    }
  }
  const instrumentation = new LifecycleInstrumentation({ enabled: false })
  instrumentation.setTracerProvider(endingWithRequest(app, observingStarts(trace.getTracerProvider(), [hideErrorText])))

  const { addHook } = app
  const own = new Map<unknown, onRequestHookHandler>()
  let isPatching = true
  const standIn = {
    addHook(this: FastifyInstance, name: string, hook: onRequestHookHandler): unknown {
      return isPatching ? own.set(name, hook) : Reflect.apply(addHook, this, [name, hook])
    }
  }
  for (const { patch } of instrumentation.getModuleDefinitions()) {
    app.addHook = patch?.({ fastify: () => standIn })().addHook
  }
  isPatching = false

  const atRequest = own.get('onRequest')
  const atHandler = own.get('preHandler')
  if (atRequest) Reflect.apply(addHook, app, ['onRequest', atRequest])
  // As the last hook before the handler: where upstream puts it, the hooks after it end the handler's span.
  app.addHook('onRoute', (route) => {
    const hooks = [route.preHandler ?? []].flat()
    if (atHandler && !hooks.includes(atHandler)) route.preHandler = [...hooks, atHandler]
  })
}

/** @throws Error naming the package to install. */
async function load(): Promise<typeof import('@opentelemetry/instrumentation-fastify')> {
  try {
    return await import('@opentelemetry/instrumentation-fastify')
  } catch (cause) {
    const words =
      'lifecycleSpans need a package that is not installed: npm install --legacy-peer-deps @opentelemetry/instrumentation-fastify@0.57'
    throw documented(new Error(`${SCOPE}: ${words}`, { cause }), 'missing-packages')
  }
}

const MAX_NAME = 128

/** A provider whose spans end with their request at the latest: upstream never ends those of a hijacked reply. */
function endingWithRequest(app: FastifyInstance, provider: TracerProvider): TracerProvider {
  const started = new WeakMap<RequestObservation, Span[]>()
  registryOf(app).observe({
    name: '@fastify-observability/tracing/lifecycle',
    end(observation) {
      for (const span of started.get(observation) ?? []) if (span.isRecording()) span.end()
    }
  })
  return {
    getTracer(...scope) {
      const tracer = provider.getTracer(...scope)
      const ending: Tracer = Object.create(tracer)
      ending.startSpan = (name, ...rest) => {
        // A plugin without a name is named after its source.
        const [title = ''] = name.split(/[\r\n]|=>|[({]/)
        const span = tracer.startSpan(title.trim().slice(0, MAX_NAME), ...rest)
        const current = currentScope()?.observation
        const observation = current && 'raw' in current ? current : undefined
        if (!observation) return span
        const spans = started.get(observation)
        if (spans) spans.push(span)
        else started.set(observation, [span])
        return span
      }
      return ending
    }
  }
}
