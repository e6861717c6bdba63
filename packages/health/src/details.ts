import { isErrorToRead, isRecord, type Redactor, thrownText } from '@fastify-observability/observation/internal'

/** What a check tells beside its outcome, by name. */
export type CheckDetails = Record<string, string | number | boolean>

const MAX_DETAILS = 20
const MAX_TEXT = 200

/**
 * Copies what can be sent of a check's result: a result, such as a driver's, may be circular, huge or throw when it is
 * read.
 */
export function detailsOf(result: unknown, redactor: Redactor): CheckDetails | undefined {
  if (!isRecord(result) || Array.isArray(result)) return undefined
  const value: unknown = typeof result.toJSON === 'function' ? result.toJSON() : result
  if (!isRecord(value) || !isPlain(value)) return undefined
  const entries = Object.entries(value)
    .filter(([, detail]) => ['string', 'number', 'boolean'].includes(typeof detail))
    .slice(0, MAX_DETAILS)
    .map(([name, detail]) => {
      if (redactor.isSecretName(name)) return [name, redactor.replacement]
      return [name, typeof detail === 'string' ? shorten(detail, redactor) : detail]
    })
  return entries.length > 0 ? Object.fromEntries(entries) : undefined
}

/** The message of what a check has thrown, which may be anything and may throw when it is read. */
export function messageOf(error: unknown, redactor: Redactor): string {
  try {
    const message = thrownText(error)
    if (message !== '' || !isErrorToRead(error)) return shorten(message, redactor)
    // A host with several addresses fails with an AggregateError, which has a code and no message.
    return shorten(thrownText('code' in error ? error.code : error.name), redactor)
  } catch {
    return '[unreadable]'
  }
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function shorten(text: string, redactor: Redactor): string {
  return redactor.text(text).slice(0, MAX_TEXT)
}
