import { createRedactor, isRecord, thrownTexts } from '@fastify-observability/observation/internal'
import {
  type Attributes,
  context,
  isSpanContextValid,
  type Span,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace
} from '@opentelemetry/api'
import type { InstrumentationScope } from '@opentelemetry/core'
import manifest from '../package.json' with { type: 'json' }

export const SCOPE = '@fastify-observability/tracing'
export const VERSION: string = manifest.version
/** Of all spans of the suite's own. */
export const SCOPE_OF_ALL: InstrumentationScope = { name: SCOPE, version: VERSION }
/** The event for the moment when the headers were written. */
export const FIRST_BYTE = 'http.response.first_byte'
export const redactor = createRedactor()
const MAX_STACK = 4_096

// Asked for each time, because a provider may be registered late or once more.
export function tracer(): Tracer {
  return trace.getTracer(SCOPE, VERSION)
}

let skipsUnsampled = false

/** Says whether a span below one that is not sampled is not recorded either, so that there is none to begin. */
export function skipUnsampled(skips: boolean): void {
  skipsUnsampled = skips
}

/** The active span, where it is of a trace that nothing is recorded of. */
function unsampledSpan(): Span | undefined {
  const span = skipsUnsampled ? trace.getActiveSpan() : undefined
  if (span === undefined || span.isRecording()) return undefined
  const spanContext = span.spanContext()
  const isFollowed = (spanContext.traceFlags & TraceFlags.SAMPLED) === 0 && spanContext.isRemote !== true
  return isFollowed && isSpanContextValid(spanContext) ? span : undefined
}

/**
 * Runs `fn` inside a span of its own, ended when `fn` returns or its promise settles, a query builder's too; what it throws
 * is recorded and thrown on. Where nothing of the trace is recorded, `fn` runs with the span around it.
 */
export function withSpan<Result>(name: string, fn: (span: Span) => Result): Result
export function withSpan<Result>(name: string, attributes: Attributes, fn: (span: Span) => Result): Result
export function withSpan<Result>(
  name: string,
  ...rest: [(span: Span) => Result] | [Attributes, (span: Span) => Result]
): Result {
  const [attributes, fn] = rest.length === 1 ? [{}, rest[0]] : rest
  const unsampled = unsampledSpan()
  if (unsampled) return fn(unsampled)
  return tracer().startActiveSpan(name, { attributes }, (span) => {
    let result: Result
    try {
      result = fn(span)
    } catch (error) {
      fail(span, error)
      span.end()
      throw error
    }
    if (result instanceof Promise) {
      // Watched from the side: the caller gets the very promise that fn returned. What a processor throws ends no process.
      result
        .catch((error) => fail(span, error))
        .finally(() => span.end())
        .catch(() => undefined)
    } else if (!isThenable(result) || !endWithThenable(result, span)) span.end()
    return result
  })
}

interface Thenable {
  then(onFulfilled?: unknown, onRejected?: unknown): unknown
}

function isThenable(value: unknown): value is Thenable {
  return isRecord(value) && 'then' in value && typeof value.then === 'function'
}

/**
 * Ends the span when a query has settled. Query builders begin when somebody waits for them, and begin again for the next
 * who does: so nobody but the caller may, and the first time is measured.
 * @returns whether it could be watched: what is frozen cannot.
 */
function endWithThenable(query: Thenable, span: Span): boolean {
  const { then } = query
  const inside = context.active()
  return Reflect.defineProperty(query, 'then', {
    configurable: true,
    writable: true,
    value: (onFulfilled?: unknown, onRejected?: unknown): unknown => {
      Reflect.deleteProperty(query, 'then')
      const begun = new Promise((resolve, reject) => {
        context.with(inside, () => Reflect.apply(then, query, [resolve, reject]))
      })
      begun
        .catch((error) => fail(span, error))
        .finally(() => span.end())
        .catch(() => undefined)
      return Reflect.apply(begun.then, begun, [onFulfilled, onRejected])
    }
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
  const { name, message, stack } = thrownTexts(error)
  return {
    name: redactor.text(name),
    message: redactor.text(message),
    ...(stack !== undefined && { stack: redactor.text(stack).slice(0, MAX_STACK) })
  }
}
