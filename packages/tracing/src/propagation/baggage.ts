import { thrownText } from '@fastify-observability/observation/internal'
import { context, propagation } from '@opentelemetry/api'

/**
 * A value that came with the request or that a caller of `withBaggage` has set, `undefined` if there is none.
 * @see https://www.w3.org/TR/baggage/
 */
export function getBaggage(name: string): string | undefined {
  return propagation.getActiveBaggage()?.getEntry(name)?.value
}

/**
 * Runs `fn` with these values added to the baggage. They go to every service that is called below it if tracing's option
 * `baggage` is on, up to 8,192 bytes: nothing that is secret belongs here.
 */
export function withBaggage<Result>(values: Record<string, string>, fn: () => Result): Result {
  let baggage = propagation.getActiveBaggage() ?? propagation.createBaggage()
  for (const [name, value] of Object.entries(Object(values))) {
    // Lone surrogates cannot be sent.
    baggage = baggage.setEntry(name.toWellFormed(), { value: textOf(value).toWellFormed() })
  }
  return context.with(propagation.setBaggage(context.active(), baggage), fn)
}

// Not every object has a text.
function textOf(value: unknown): string {
  try {
    return String(value)
  } catch {
    return thrownText(value)
  }
}
