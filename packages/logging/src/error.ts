import { types } from 'node:util'
import { framesIn, isDocs } from '@fastify-observability/observation/internal'

/** An error as it stands in a line. */
export interface ErrorFields {
  type: string
  message: string
  stack?: string
  code?: string | number
  /** Where the suite explains it, of an error of its own. */
  docs?: string
  cause?: ErrorFields
  /** Of an AggregateError. */
  errors?: ErrorFields[]
}

/** How the parts of an error become text. Neither may throw. */
export interface ErrorText {
  text(text: string): string
  /** For everything but strings. */
  describe(value: unknown): string
}

const MAX_CAUSES = 8
const MAX_ERRORS = 32
const UNREADABLE = '[unreadable]'

/** Type, message, stack, code, causes and parts of whatever was thrown. Does not throw, whatever it is. */
export function errorFields(thrown: unknown, how: ErrorText = { text: String, describe }): ErrorFields {
  const { text } = how
  const seen: object[] = []

  function fieldsOf(error: unknown, depth: number): ErrorFields {
    if (typeof error === 'string') return { type: 'string', message: text(error) }
    if (typeof error !== 'object' || error === null) {
      return { type: error === null ? 'null' : typeof error, message: how.describe(error) }
    }
    const name = read(error, 'name')
    const type = typeof name === 'string' ? text(name) : isError(error) ? 'Error' : 'object'
    if (seen.includes(error)) return { type, message: '[circular]' }
    if (depth > MAX_CAUSES || seen.length >= MAX_ERRORS) return { type, message: '[more]' }
    seen.push(error)

    const message = read(error, 'message', UNREADABLE)
    if (typeof message !== 'string' && !isError(error)) return { type, message: how.describe(error) }
    const fields: ErrorFields = { type, ...messageAndStack(name, message, read(error, 'stack')) }
    const code = read(error, 'code')
    const docs = read(error, 'docs')
    const cause = read(error, 'cause')
    const errors = partsOf(error)
    if (typeof code === 'string') fields.code = text(code)
    if (typeof code === 'number') fields.code = code
    if (isDocs(docs)) fields.docs = docs
    if (cause !== undefined && cause !== null) fields.cause = fieldsOf(cause, depth + 1)
    if (errors) fields.errors = errors.map((part) => fieldsOf(part, depth + 1))
    return fields
  }

  function messageAndStack(name: unknown, message: unknown, stack: unknown): Pick<ErrorFields, 'message' | 'stack'> {
    const safe = typeof message === 'string' ? text(message) : message === undefined ? '' : how.describe(message)
    if (typeof stack !== 'string') return { message: safe }
    // The stack repeats name and message, and must not say more than they.
    if (isHolding(name) || isHolding(message)) return { message: safe, stack: text(framesIn(stack).trimStart()) }
    const at = typeof message === 'string' && message !== safe ? stack.indexOf(message) : -1
    if (typeof message !== 'string' || at === -1) return { message: safe, stack: text(stack) }
    return { message: safe, stack: text(stack.slice(0, at)) + safe + text(stack.slice(at + message.length)) }
  }

  return fieldsOf(thrown, 0)
}

/** Whether it is an error, of this realm or another. */
export function isError(value: unknown): boolean {
  try {
    return types.isNativeError(value) || value instanceof Error
  } catch {
    // A proxy's trap.
    return false
  }
}

/** Whether a stack shows what it holds. */
function isHolding(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

// `otherwise` if it cannot be read.
function read(object: object, key: string, otherwise?: unknown): unknown {
  try {
    return Reflect.get(object, key)
  } catch {
    return otherwise
  }
}

function partsOf(error: object): unknown[] | undefined {
  try {
    const errors = read(error, 'errors')
    return Array.isArray(errors) ? errors.slice(0, MAX_ERRORS) : undefined
  } catch {
    return undefined
  }
}

function describe(value: unknown): string {
  try {
    return String(value)
  } catch {
    return UNREADABLE
  }
}
