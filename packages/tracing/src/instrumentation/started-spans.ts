import type { Attributes, Span, Tracer, TracerProvider } from '@opentelemetry/api'

/** Receives a span that has just been started, and what it was started with. */
export type StartListener = (span: Span, name: string, attributes: Attributes) => void

/** A provider that shows each span to the listeners as soon as it has started. */
export function observingStarts(provider: TracerProvider, listeners: readonly StartListener[]): TracerProvider {
  return {
    getTracer(name, version, options) {
      const tracer = provider.getTracer(name, version, options)
      const observed: Tracer = Object.create(tracer)
      observed.startSpan = (...args) => {
        const span = tracer.startSpan(...args)
        for (const listener of listeners) listener(span, args[0], args[1]?.attributes ?? {})
        return span
      }
      return observed
    }
  }
}
