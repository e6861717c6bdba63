import type { Redactor } from '@fastify-observability/observation'
import type { Attributes, AttributeValue } from '@opentelemetry/api'
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace-node'
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
  'request.id',
  'correlation.id'
])

const MAX_MESSAGE = 4_096

/**
 * Takes secrets out of every span before the next processors see it, whoever made it: out of the attributes, the events
 * and the message of the status.
 */
export function scrubSpans(redactorNow: () => Redactor, next: SpanProcessor[]): SpanProcessor {
  let redactor = redactorNow()
  function scrubValue(value: AttributeValue): AttributeValue {
    if (typeof value === 'string') return redactor.text(value)
    return isListOfTexts(value) ? value.map((item) => (typeof item === 'string' ? redactor.text(item) : item)) : value
  }

  function scrubAttributes(attributes: Attributes): void {
    for (const key in attributes) {
      const value = attributes[key]
      if (value === undefined || typeof value === 'number' || typeof value === 'boolean' || PLAIN.has(key)) continue
      if (redactor.isSecretName(key)) attributes[key] = redactor.replacement
      // The rules know parameters by the question mark before them.
      else if (key === 'url.query') attributes[key] = redactor.text(`?${value}`.replace(/^\?+/, '?')).slice(1)
      else if (STATEMENTS.has(key)) attributes[key] = withoutValues(String(value), isMySql(attributes))
      else attributes[key] = scrubValue(value)
    }
  }

  function scrub({ attributes, events, links, status }: ReadableSpan): void {
    scrubAttributes(attributes)
    for (const event of events) {
      event.name = redactor.text(event.name)
      if (event.attributes) scrubAttributes(event.attributes)
    }
    for (const link of links) if (link.attributes) scrubAttributes(link.attributes)
    if (status.message) status.message = redactor.text(status.message).slice(0, MAX_MESSAGE)
  }

  return {
    onStart(span, context) {
      for (const processor of next) processor.onStart(span, context)
    },
    onEnd(span) {
      redactor = redactorNow()
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

function isListOfTexts(value: AttributeValue): value is (string | null | undefined)[] {
  return Array.isArray(value) && value.some((item) => typeof item === 'string')
}
