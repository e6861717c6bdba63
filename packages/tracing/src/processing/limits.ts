import { ignoreVariable } from '@fastify-observability/observation/internal'

/** How much one span may hold. What is beyond is dropped and counted in the span, as the specification has it. */
export interface Limits {
  attributeValueLengthLimit: number
  attributeCountLimit: number
  eventCountLimit: number
  linkCountLimit: number
  attributePerEventCountLimit: number
  attributePerLinkCountLimit: number
}

const MANY = 128
// Long enough for a statement, a URL and a stack.
const LONG = 4_096

/** @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#attribute-limits */
export function limitsFromEnv(warn: (message: string) => void): Limits {
  /** Of the first variable that is a number; the specification's name stands before that of JavaScript's SDK. */
  function limit(...names: string[]): number | undefined {
    for (const name of names) {
      const text = process.env[name]?.trim()
      if (!text) continue
      const value = Number(text)
      if (Number.isSafeInteger(value) && value >= 0) return value
      ignoreVariable(name, text, 'a whole number from 0', warn)
    }
    return undefined
  }
  return {
    // The SDK's spans take 0 for no limit.
    attributeValueLengthLimit:
      (limit('OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT') ?? LONG) ||
      Number.POSITIVE_INFINITY,
    attributeCountLimit: limit('OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT', 'OTEL_ATTRIBUTE_COUNT_LIMIT') ?? MANY,
    eventCountLimit: limit('OTEL_SPAN_EVENT_COUNT_LIMIT') ?? MANY,
    linkCountLimit: limit('OTEL_SPAN_LINK_COUNT_LIMIT') ?? MANY,
    attributePerEventCountLimit:
      limit('OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT', 'OTEL_SPAN_ATTRIBUTE_PER_EVENT_COUNT_LIMIT') ?? MANY,
    attributePerLinkCountLimit:
      limit('OTEL_LINK_ATTRIBUTE_COUNT_LIMIT', 'OTEL_SPAN_ATTRIBUTE_PER_LINK_COUNT_LIMIT') ?? MANY
  }
}
