import type { LogLevel, Outcome } from '@fastify-observability/observation'
import { isShed, type Redactor, type RequestObservation } from '@fastify-observability/observation/internal'
import { CANONICAL } from './fields.ts'
import type { ReadyLines } from './logger.ts'

const SLOW_PROBE_MS = 1_000

/** The level of a request's canonical line, `undefined` for no line. */
export function canonicalLevel({ config: { log = true } }: RequestObservation, outcome: Outcome): LogLevel | undefined {
  const { statusCode, aborted, durationMs, errorType } = outcome
  if (log === false) return undefined
  // The pressure has a line of its own; each request that it sheds is no error of the service's.
  if (isShed(outcome)) return 'warn'
  if (statusCode >= 500 || (errorType !== undefined && statusCode < 400 && !aborted)) return 'error'
  if (log === 'failures') return durationMs > SLOW_PROBE_MS ? 'warn' : undefined
  if (typeof log === 'string') return log
  return statusCode >= 400 || aborted ? 'warn' : 'info'
}

/** The fields of a request's canonical line beside its context. */
export function canonicalFields(observation: RequestObservation, outcome: Outcome): object {
  const own = CANONICAL.map(({ name, value }) => [name, value(observation, outcome)])
  const fields = {
    // A formatter of the user's sees no names without a value.
    ...Object.fromEntries(own.filter(([, value]) => value !== undefined)),
    ...Object.fromEntries(observation.fields)
  }
  if (outcome.error === undefined) return fields
  return { ...fields, err: isShed(outcome) ? withoutStack(outcome.error) : outcome.error }
}

/**
 * Makes the function that writes the same fields, without an error, as JSON; `undefined` when the user keeps one of them
 * secret. Every request has this line, and nearly all of it is numbers and what the route says.
 */
export function canonicalText(
  { isSecret }: Redactor,
  { quote, added }: Pick<ReadyLines, 'quote' | 'added'>
): ((observation: RequestObservation, outcome: Outcome) => string) | undefined {
  if (CANONICAL.some(({ name }) => isSecret(name))) return undefined
  const writers = CANONICAL.map(({ writer }) => writer(quote))
  return (observation, outcome) => {
    let text = ''
    for (const write of writers) text += write(observation, outcome)
    return observation.added === undefined ? text : text + added(observation.added)
  }
}

function withoutStack(error: unknown): unknown {
  return error instanceof Error ? { name: error.name, message: error.message, code: Reflect.get(error, 'code') } : error
}
