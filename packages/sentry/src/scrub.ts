import {
  isNamedByOther,
  isNamedByPrevious,
  isRecord,
  type Redactor,
  thrownText
} from '@fastify-observability/observation/internal'
import type { Event } from '@sentry/node'

const MAX_DEPTH = 12
// They identify the event and the SDK, and describe no failure.
const KEPT = new Set(['sdkProcessingMetadata', 'sdk', 'modules', 'debug_meta', 'event_id', 'timestamp', 'type'])
// Below these the keys are the application's, and may name secrets.
const APPLICATION_KEYS = new Set(['data', 'vars', 'headers', 'cookies', 'env', 'extra', 'tags'])
const SDK_CONTEXTS = new Set(['trace', 'app', 'culture', 'device', 'os', 'runtime', 'cloud_resource', 'response'])

type KeyTest = (key: string) => boolean

const NO_KEYS: KeyTest = () => false

/** Takes secrets out of all texts of an event, and the values of secret keys out of the application's data. */
export function scrubEvent<Sent extends Event>(event: Sent, redactor: Redactor): Sent {
  for (const exception of event.exception?.values ?? []) {
    // An error may have anything as its name and message.
    exception.type &&= thrownText(exception.type)
    exception.value &&= thrownText(exception.value)
  }
  for (const [key, value] of Object.entries(event)) {
    if (key === 'request') Object.assign(event, { [key]: scrubRequest(value, redactor) })
    else if (!KEPT.has(key))
      Object.assign(event, { [key]: scrub(value, redactor, testBelow(key, NO_KEYS, redactor), key) })
  }
  // An allow-list need not name the user's keys.
  if (event.user) event.user = scrubAttributes(event.user, redactor)
  for (const [name, context] of Object.entries(event.contexts ?? {})) {
    if (!SDK_CONTEXTS.has(name))
      Object.assign(event.contexts ?? {}, { [name]: scrub(context, redactor, redactor.isSecret) })
  }
  return event
}

/** Takes secrets out of the texts, and the values of keys that are named like secrets. */
export function scrubAttributes(attributes: Record<string, unknown>, redactor: Redactor): Record<string, unknown> {
  return scrubEntries(attributes, redactor, redactor.isSecretName, 0)
}

// The rules know parameters by the question mark before them.
function scrubRequest(request: unknown, redactor: Redactor): unknown {
  const scrubbed = scrub(request, redactor, NO_KEYS)
  if (!isRecord(scrubbed) || typeof scrubbed.query_string !== 'string') return scrubbed
  return { ...scrubbed, query_string: redactor.text(`?${scrubbed.query_string}`).slice(1) }
}

function scrub(value: unknown, redactor: Redactor, isSecret: KeyTest, key = '', depth = 0): unknown {
  if (typeof value === 'string') return redactor.text(value)
  if (!isRecord(value)) return value
  if (depth === MAX_DEPTH) return '[more]'
  if (!Array.isArray(value)) return scrubEntries(value, redactor, isSecret, depth)
  const isName = isSecret === NO_KEYS ? NO_KEYS : redactor.isSecretName
  return value.map((item, index) =>
    isNamedByPrevious(value, index, key, isName) ? redactor.replacement : scrub(item, redactor, isSecret, '', depth + 1)
  )
}

function scrubEntries(
  record: Record<string, unknown>,
  redactor: Redactor,
  isSecret: KeyTest,
  depth: number
): Record<string, unknown> {
  const isName = isSecret === NO_KEYS ? NO_KEYS : redactor.isSecretName
  return Object.fromEntries(
    Object.entries(record).map(([key, value]) => {
      const name = redactor.text(key)
      if (isSecret(key) || isNamedByOther(record, key, isName)) return [name, redactor.replacement]
      return [name, scrub(value, redactor, testBelow(key, isSecret, redactor), key, depth + 1)]
    })
  )
}

/** By which rule the keys below a key are secret. */
function testBelow(key: string, isSecret: KeyTest, redactor: Redactor): KeyTest {
  return APPLICATION_KEYS.has(key) ? redactor.isSecret : isSecret
}
