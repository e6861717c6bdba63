import {
  type Baggage,
  type BaggageEntry,
  baggageEntryMetadataFromString,
  propagation,
  type TextMapPropagator
} from '@opentelemetry/api'
import { isTracingSuppressed } from '@opentelemetry/core'

const BAGGAGE_HEADER = 'baggage'
const MAX_LENGTH = 8_192
const TOKEN = /^[!#$%&'*+\-.^_`|~\w]+$/

/**
 * Carries baggage as its specification has it: keys are tokens that stay as they are, values are percent-encoded and may be
 * empty, of a key that occurs twice the first counts, and of too long a list the members are kept that fit.
 * @see https://www.w3.org/TR/baggage/
 */
export function strictBaggage(): TextMapPropagator<unknown> {
  return {
    fields: () => [BAGGAGE_HEADER],
    extract(context, carrier, getter) {
      const header: unknown = getter.get(carrier, BAGGAGE_HEADER)
      const entries = parse([header].flat().filter(isText).join(','))
      if (Object.keys(entries).length === 0) return context
      return propagation.setBaggage(context, propagation.createBaggage(entries))
    },
    inject(context, carrier, setter) {
      const baggage = propagation.getBaggage(context)
      if (!baggage || isTracingSuppressed(context)) return
      const header = fitting(membersOf(baggage)).join(',')
      if (header) setter.set(carrier, BAGGAGE_HEADER, header)
    }
  }
}

function parse(header: string): Record<string, BaggageEntry> {
  const entries = new Map<string, BaggageEntry>()
  for (const member of fitting(header.split(',').map((text) => text.trim()))) {
    const [pair = '', ...properties] = member.split(';')
    const equals = pair.indexOf('=')
    const key = pair.slice(0, equals).trim()
    if (equals === -1 || !TOKEN.test(key) || entries.has(key)) continue
    const metadata = properties.map((text) => text.trim()).join(';')
    entries.set(key, {
      value: decoded(pair.slice(equals + 1).trim()),
      ...(metadata && { metadata: baggageEntryMetadataFromString(metadata) })
    })
  }
  return Object.fromEntries(entries)
}

function membersOf(baggage: Baggage): string[] {
  return baggage.getAllEntries().map(([key, { value, metadata }]) => {
    const name = TOKEN.test(key) ? key : encodeURIComponent(key)
    const properties = metadata?.toString()
    return `${name}=${encodeURIComponent(value)}${properties ? `;${properties}` : ''}`
  })
}

/** The members that fit into a header, in their order. */
function fitting(members: string[]): string[] {
  let length = 0
  return members.filter((member) => {
    const longer = length + (length > 0 ? 1 : 0) + member.length
    if (longer > MAX_LENGTH) return false
    length = longer
    return true
  })
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    // A percent sign that begins no escape stands for itself.
    return value
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}
