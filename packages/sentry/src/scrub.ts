import type { Redactor } from '@fastify-observability/observation/internal'
import type { Event } from '@sentry/node'

const MAX_DEPTH = 12
// They identify the event and the SDK, and describe no failure.
const KEPT = new Set(['sdkProcessingMetadata', 'sdk', 'modules', 'debug_meta', 'event_id', 'timestamp', 'type'])
// Below these the keys are the application's, and may name secrets.
const APPLICATION_KEYS = new Set(['data', 'vars', 'headers', 'cookies', 'env', 'extra', 'tags'])
const SDK_CONTEXTS = new Set(['trace', 'app', 'culture', 'device', 'os', 'runtime', 'cloud_resource', 'response'])

/** Takes secrets out of all texts of an event, and the values of secret keys out of the application's data. */
export function scrubEvent<Sent extends Event>(event: Sent, redactor: Redactor): Sent {
  for (const [key, value] of Object.entries(event)) {
    if (!KEPT.has(key)) Object.assign(event, { [key]: scrub(value, redactor, APPLICATION_KEYS.has(key)) })
  }
  // An allow-list need not name the user's keys.
  if (event.user) event.user = scrubAttributes(event.user, redactor)
  for (const [name, context] of Object.entries(event.contexts ?? {})) {
    if (!SDK_CONTEXTS.has(name)) Object.assign(event.contexts ?? {}, { [name]: scrub(context, redactor, true) })
  }
  return event
}

/** Takes secrets out of the texts, and the values of keys that are named like secrets. */
export function scrubAttributes(attributes: Record<string, unknown>, redactor: Redactor): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(attributes).map(([key, value]) => [
      key,
      redactor.isSecretName(key) ? redactor.replacement : scrub(value, redactor, false)
    ])
  )
}

function scrub(value: unknown, redactor: Redactor, hasOwnKeys: boolean, depth = 0): unknown {
  if (typeof value === 'string') return redactor.text(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth === MAX_DEPTH) return '[more]'
  if (Array.isArray(value)) return value.map((item) => scrub(item, redactor, hasOwnKeys, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (hasOwnKeys && redactor.isSecret(key)) return [key, redactor.replacement]
      return [redactor.text(key), scrub(inner, redactor, hasOwnKeys || APPLICATION_KEYS.has(key), depth + 1)]
    })
  )
}
