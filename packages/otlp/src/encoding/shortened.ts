import { isRecord } from '@fastify-observability/observation/internal'

/** A text of so many characters at most. */
export function shortened(text: string, characters: number): string {
  return text.length > characters ? `${text.slice(0, characters)}…` : text
}

/** The attributes with texts of so many characters at most. */
export function shortenedAttributes(
  attributes: Readonly<Record<string, unknown>>,
  characters: number
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, shortenedValue(value, characters)]))
}

/** Of a list or a map, only the text in JSON is left: it may have any number of parts. */
export function shortenedValue(value: unknown, characters: number): unknown {
  if (typeof value === 'string') return shortened(value, characters)
  return typeof value === 'object' && value !== null ? shortened(JSON.stringify(value), characters) : value
}

/** The attributes with each text in them cut to so many characters. @see https://opentelemetry.io/docs/specs/otel/common/#attribute-limits */
export function limitedTexts(
  attributes: Readonly<Record<string, unknown>>,
  characters: number
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, limitedValue(value, characters)]))
}

function limitedValue(value: unknown, characters: number): unknown {
  if (typeof value === 'string') return value.slice(0, characters)
  if (Array.isArray(value)) return value.map((item) => limitedValue(item, characters))
  return isRecord(value) ? limitedTexts(value, characters) : value
}
