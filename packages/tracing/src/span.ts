import { createRedactor } from '@fastify-observability/observation/internal'
import { type Attributes, type Span, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api'

export const SCOPE = '@fastify-observability/tracing'
/** The event for the moment when the headers were written. */
export const FIRST_BYTE = 'http.response.first_byte'
export const redactor = createRedactor()
const MAX_STACK = 4_096

// Asked for each time, because a provider may be registered late or once more.
export function tracer(): Tracer {
  return trace.getTracer(SCOPE)
}

/**
 * Runs `fn` inside a span of its own, ended when `fn` returns or its promise settles; what it throws is recorded and
 * thrown on.
 */
export function withSpan<Result>(name: string, fn: (span: Span) => Result): Result
export function withSpan<Result>(name: string, attributes: Attributes, fn: (span: Span) => Result): Result
export function withSpan<Result>(
  name: string,
  ...rest: [(span: Span) => Result] | [Attributes, (span: Span) => Result]
): Result {
  const [attributes, fn] = rest.length === 1 ? [{}, rest[0]] : rest
  return tracer().startActiveSpan(name, { attributes }, (span) => {
    let result: Result
    try {
      result = fn(span)
    } catch (error) {
      fail(span, error)
      span.end()
      throw error
    }
    if (!(result instanceof Promise)) {
      span.end()
      return result
    }
    // Watched from the side: the caller gets the very promise that fn returned.
    result.catch((error) => fail(span, error)).finally(() => span.end())
    return result
  })
}

function fail(span: Span, error: unknown): void {
  const exception = exceptionOf(error)
  span.recordException(exception)
  span.setAttribute('error.type', exception.name)
  span.setStatus({ code: SpanStatusCode.ERROR, message: exception.message })
}

/** What a span may carry of an error, which may be anything and may throw when looked at. */
export function exceptionOf(error: unknown): { name: string; message: string; stack?: string } {
  try {
    if (!(error instanceof Error)) return { name: typeof error, message: redactor.text(String(error)) }
    const { name, message, stack = '' } = error
    return { name, message: redactor.text(message), stack: redactor.text(stack).slice(0, MAX_STACK) }
  } catch {
    return { name: 'Error', message: '[unreadable]' }
  }
}
