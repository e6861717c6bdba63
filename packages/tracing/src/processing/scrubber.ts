import {
  byPlace,
  isNamedByOther,
  isNamedByPrevious,
  isRecord,
  type KeptFields,
  type Redactor
} from '@fastify-observability/observation/internal'
import type { Attributes, AttributeValue } from '@opentelemetry/api'
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace'
import { FIRST_BYTE } from '../span.ts'
import { withoutArguments, withoutValues } from './statement.ts'

const STATEMENTS = new Set(['db.query.text', 'db.statement'])
// What the server span says of every request, and what can be no secret.
const PLAIN = [
  'http.request.method',
  'http.route',
  'http.response.status_code',
  'url.scheme',
  'server.address',
  'server.port',
  'client.address',
  'network.protocol.version',
  'network.peer.address',
  'request.id',
  'correlation.id'
]

const NOTHING: Attributes = Object.freeze({})
const MAX_MESSAGE = 4_096
const MAX_KEYS = 512
// A value that was not seen again for so long makes way for the present one.
const MAX_MISSES = 64

/** What is done with the values of an attribute. */
interface Rule {
  readonly isStatement: boolean
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
  let rules = noRules()
  let ruleAt = byPlace(ruleOf)

  function cleanValue(value: AttributeValue, key = ''): AttributeValue {
    if (typeof value === 'string') return redactor.text(value)
    if (Array.isArray(value)) return value.some(mayHoldText) ? cleanItems(value, key) : value
    if (!isRecord(value) || value instanceof Uint8Array) return value
    const { replacement, isSecretName, text } = redactor
    const entries = Object.entries(value).map(([name, inner]) => {
      const isSecret = isSecretName(name) || isNamedByOther(value, name, isSecretName)
      return [text(name), isSecret ? replacement : cleanValue(inner, name)]
    })
    return Object.fromEntries(entries)
  }

  function cleanItems(items: AttributeValue[], key: string): AttributeValue[] {
    const { replacement, isSecretName } = redactor
    return items.map((item, index) => {
      return isNamedByPrevious(items, index, key, isSecretName) ? replacement : cleanValue(item)
    })
  }

  function cleanStatement(statement: string, attributes: Attributes): string {
    const system = attributes['db.system.name'] ?? attributes['db.system']
    if (system === 'redis' || system === 'valkey') return withoutArguments(statement)
    // The queries of MongoDB and Elasticsearch are JSON.
    return redactor.text(withoutValues(statement, system === 'mysql' || system === 'mariadb'))
  }

  function cleaningOf(key: string): Rule['clean'] {
    const { replacement, isSecretName } = redactor
    if (isSecretName(key)) return () => replacement
    // The rules know parameters by the question mark before them.
    if (key === 'url.query') return (value) => redactor.text(`?${value}`.replace(/^\?+/, '?')).slice(1)
    if (STATEMENTS.has(key)) return (value, attributes) => cleanStatement(String(value), attributes)
    return (value) => cleanValue(value, key)
  }

  /** `false` for what needs no cleaning. */
  function ruleOf(key: string): Rule | false {
    const known = rules.get(key)
    if (known !== undefined) return known
    const rule: Rule = {
      isStatement: STATEMENTS.has(key),
      clean: cleaningOf(key),
      known: undefined,
      cleaned: undefined,
      misses: MAX_MISSES
    }
    if (rules.size < MAX_KEYS) rules.set(key, rule)
    return rule
  }

  function scrubAttributes(attributes: Attributes): void {
    for (const key in attributes) {
      const value = attributes[key]
      const rule = ruleOf(key)
      const cleaned = rule ? scrubbed(rule, value, attributes) : value
      if (cleaned !== value) attributes[key] = cleaned
    }
  }

  function scrubbed(rule: Rule, value: AttributeValue | undefined, attributes: Attributes): AttributeValue | undefined {
    // That there is a secret is none.
    if (value === undefined || value === null || typeof value === 'boolean') return value
    if (rule.known === value) {
      rule.misses = 0
      return rule.cleaned
    }
    const cleaned = rule.clean(value, attributes)
    // A statement is taken apart by its system, and a list may change.
    if (typeof value !== 'string' || rule.isStatement || ++rule.misses <= MAX_MISSES) return cleaned
    rule.known = value
    rule.cleaned = cleaned
    rule.misses = 0
    return cleaned
  }

  /** Whether fields can stay where they are, beside the attributes. */
  function areClean({ first }: KeptFields): boolean {
    let place = 0
    for (let field = first; field !== undefined; field = field.next) {
      const { name, value } = field
      const rule = ruleAt(name, place++)
      if (rule && (rule.isStatement || isRecord(value) || scrubbed(rule, value, NOTHING) !== value)) return false
    }
    return true
  }

  // Ours has its attributes with those that have no value too; leaving those out takes a copy.
  function scrub(span: ReadableSpan & { sparse?: Attributes; added?: KeptFields | undefined }): void {
    const { events, links, status } = span
    if (span.added !== undefined && !areClean(span.added)) scrubAttributes(span.attributes)
    else scrubAttributes(span.sparse ?? span.attributes)
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
      if (next.length === 0) return
      const now = redactorNow()
      if (now !== redactor) {
        redactor = now
        rules = noRules()
        ruleAt = byPlace(ruleOf)
      }
      scrub(span)
      for (const processor of next) processor.onEnd(span)
    },
    forceFlush: async () => void (await Promise.all(next.map((processor) => processor.forceFlush()))),
    shutdown: async () => void (await Promise.all(next.map((processor) => processor.shutdown())))
  }
}

/** Those of an app that has met no attributes yet: `false` for what needs no cleaning. */
function noRules(): Map<string, Rule | false> {
  return new Map(PLAIN.map((key) => [key, false]))
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
