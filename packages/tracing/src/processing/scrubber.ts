import { isRecord, type Redactor } from '@fastify-observability/observation/internal'
import type { Attributes, AttributeValue } from '@opentelemetry/api'
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace'
import { FIRST_BYTE } from '../span.ts'
import { withoutValues } from './statement.ts'

const STATEMENTS = new Set(['db.query.text', 'db.statement'])
// What the server span says of every request, and what can be no secret.
const PLAIN = new Set([
  'http.request.method',
  'http.route',
  'url.scheme',
  'server.address',
  'client.address',
  'network.protocol.version',
  'network.peer.address',
  'request.id',
  'correlation.id'
])

const MAX_MESSAGE = 4_096
const MAX_KEYS = 512
// A value that was not seen again for so long makes way for the present one.
const MAX_MISSES = 64

/** What is done with the values of an attribute. */
interface Rule {
  clean(value: AttributeValue, attributes: Attributes): AttributeValue
  /** Most attributes have the value that they had in the span before. */
  known: AttributeValue | undefined
  cleaned: AttributeValue | undefined
  misses: number
}

/**
 * Takes secrets out of every span before the next processors see it, ours or a library's: out of the attributes, the events
 * and the message of the status.
 */
export function scrubSpans(redactorNow: () => Redactor, next: SpanProcessor[]): SpanProcessor {
  let redactor = redactorNow()
  let rules = new Map<string, Rule>()

  function cleanValue(value: AttributeValue): AttributeValue {
    if (typeof value === 'string') return redactor.text(value)
    if (Array.isArray(value)) return value.some(mayHoldText) ? value.map(cleanValue) : value
    if (!isRecord(value) || value instanceof Uint8Array) return value
    const { replacement, isSecretName } = redactor
    const entries = Object.entries(value).map(([key, inner]) => [
      key,
      isSecretName(key) ? replacement : cleanValue(inner)
    ])
    return Object.fromEntries(entries)
  }

  function cleaningOf(key: string): Rule['clean'] {
    const { replacement, isSecretName } = redactor
    if (isSecretName(key)) return () => replacement
    // The rules know parameters by the question mark before them.
    if (key === 'url.query') return (value) => redactor.text(`?${value}`.replace(/^\?+/, '?')).slice(1)
    if (STATEMENTS.has(key)) return (value, attributes) => withoutValues(String(value), isMySql(attributes))
    return cleanValue
  }

  /** `undefined` for what needs no cleaning. */
  function ruleOf(key: string): Rule | undefined {
    if (PLAIN.has(key)) return undefined
    const known = rules.get(key)
    if (known) return known
    const rule: Rule = { clean: cleaningOf(key), known: undefined, cleaned: undefined, misses: MAX_MISSES }
    if (rules.size < MAX_KEYS) rules.set(key, rule)
    return rule
  }

  function scrubAttributes(attributes: Attributes): void {
    for (const key in attributes) {
      const value = attributes[key]
      if (value === undefined || value === null || typeof value === 'number' || typeof value === 'boolean') continue
      const rule = ruleOf(key)
      if (rule === undefined) continue
      if (rule.known === value) {
        rule.misses = 0
        if (rule.cleaned !== value) attributes[key] = rule.cleaned
        continue
      }
      const cleaned = rule.clean(value, attributes)
      if (cleaned !== value) attributes[key] = cleaned
      // A statement is taken apart by its system, and a list may change.
      if (typeof value !== 'string' || STATEMENTS.has(key) || ++rule.misses <= MAX_MISSES) continue
      rule.known = value
      rule.cleaned = cleaned
      rule.misses = 0
    }
  }

  // Ours has its attributes with those that have no value too; leaving those out takes a copy.
  function scrub(span: ReadableSpan & { sparse?: Attributes }): void {
    const { events, links, status } = span
    scrubAttributes(span.sparse ?? span.attributes)
    for (const event of events) {
      if (event.name !== FIRST_BYTE) event.name = redactor.text(textOf(event.name))
      if (event.attributes) scrubAttributes(event.attributes)
    }
    for (const link of links) if (link.attributes) scrubAttributes(link.attributes)
    if (status.message) status.message = redactor.text(status.message).slice(0, MAX_MESSAGE)
  }

  return {
    onStart(span, context) {
      for (const processor of next) processor.onStart(span, context)
    },
    onEnding(span) {
      for (const processor of next) processor.onEnding?.(span)
    },
    onEnd(span) {
      const now = redactorNow()
      if (now !== redactor) rules = new Map()
      redactor = now
      scrub(span)
      for (const processor of next) processor.onEnd(span)
    },
    forceFlush: async () => void (await Promise.all(next.map((processor) => processor.forceFlush()))),
    shutdown: async () => void (await Promise.all(next.map((processor) => processor.shutdown())))
  }
}

// Its double quotes are those of values.
function isMySql(attributes: Attributes): boolean {
  const system = attributes['db.system.name'] ?? attributes['db.system']
  return system === 'mysql' || system === 'mariadb'
}

function mayHoldText(value: unknown): boolean {
  return typeof value === 'string' || isRecord(value)
}

/** Of what a program without types has given as a name. */
function textOf(value: unknown): string {
  try {
    return String(value)
  } catch {
    return '[unreadable]'
  }
}
