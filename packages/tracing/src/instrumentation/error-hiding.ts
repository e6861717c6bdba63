import { thrownText } from '@fastify-observability/observation/internal'
import type { Attributes, Span } from '@opentelemetry/api'

/**
 * Has database and lifecycle spans say of an error what kind it is, and not its text: databases quote values there, and what
 * a handler throws is on the server span already, with its secrets taken out.
 */
export function hideErrorText(span: Span, _name: string, attributes: Attributes): void {
  if (!mayQuote(attributes)) return
  const { setStatus, recordException } = span
  span.setStatus = ({ code }) => setStatus.call(span, { code })
  span.recordException = (exception, time) => {
    const named = typeof exception === 'string' ? exception : { name: thrownText(exception.code ?? exception.name) }
    recordException.call(span, named, time)
  }
}

function mayQuote(attributes: Attributes): boolean {
  return Object.keys(attributes).some((key) => key.startsWith('db.') || key === 'fastify.type')
}
