import type { Attributes, Span, Tracer, TracerProvider } from '@opentelemetry/api'

/**
 * A provider whose database and lifecycle spans say of an error what kind it is, and not its text: databases quote values
 * there, and what a handler throws is on the server span already, with its secrets taken out.
 */
export function withoutErrorText(provider: TracerProvider): TracerProvider {
  return {
    getTracer(name, version, options) {
      const tracer = provider.getTracer(name, version, options)
      const discreet: Tracer = Object.create(tracer)
      discreet.startSpan = (...args) => {
        const span = tracer.startSpan(...args)
        return mayQuote(args[1]?.attributes) ? silence(span) : span
      }
      return discreet
    }
  }
}

function mayQuote(attributes: Attributes = {}): boolean {
  return Object.keys(attributes).some((key) => key.startsWith('db.') || key === 'fastify.type')
}

function silence(span: Span): Span {
  const { setStatus, recordException } = span
  span.setStatus = ({ code }) => setStatus.call(span, { code })
  span.recordException = (exception, time) => {
    const named = typeof exception === 'string' ? exception : { name: String(exception.code ?? exception.name) }
    recordException.call(span, named, time)
  }
  return span
}
