import { types } from 'node:util'
import { isRecord } from './record.ts'

/** What a thrown value says of itself. Nothing is redacted yet. */
export interface ThrownTexts {
  /** The class of an error, the type of all else. */
  name: string
  message: string
  stack?: string
}

const MAX_KEYS = 10
/** Names and codes end up as labels of metrics. */
export const MAX_NAME = 128
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER)

/** The texts of whatever was thrown. Does not throw, and asks no proxy: its traps may never return. */
export function thrownTexts(thrown: unknown): ThrownTexts {
  const message = thrownText(thrown)
  if (!isErrorToRead(thrown)) return { name: typeof thrown, message }
  const name = read(thrown, 'name')
  const stack = read(thrown, 'stack')
  const hasTexts = typeof name === 'string' && typeof read(thrown, 'message') === 'string'
  const kind = typeof name === 'string' ? name.slice(0, MAX_NAME) : 'Error'
  if (typeof stack !== 'string') return { name: kind, message }
  return { name: kind, message, stack: hasTexts ? stack : `${kind}: ${message}${framesIn(stack)}` }
}

/** A stack without its first lines, which repeat name and message: of a list they would show the items. */
export function framesIn(stack: string): string {
  const at = stack.indexOf('\n    at ')
  return at === -1 ? '' : stack.slice(at)
}

/**
 * The message of whatever was thrown: a text as it is; of a list, an object or a function what it is, and not what it holds,
 * because nothing would tell which items are secret.
 */
export function thrownText(thrown: unknown): string {
  if (!isRecord(thrown) || types.isProxy(thrown)) return describe(thrown)
  const message = read(thrown, 'message', UNREADABLE)
  if (typeof message === 'string') return message
  return isErrorToRead(thrown) ? describe(message ?? '') : describe(thrown)
}

/** Whether it is an error of this realm, and none that a proxy pretends to be. */
export function isErrorToRead(thrown: unknown): thrown is Error {
  try {
    return !types.isProxy(thrown) && thrown instanceof Error
  } catch {
    // A prototype may be a proxy.
    return false
  }
}

const UNREADABLE = '[unreadable]'

function describe(value: unknown): string {
  if (typeof value === 'function') return '[function]'
  // The digits of a large one take seconds.
  if (typeof value === 'bigint') return value <= MAX_SAFE && value >= -MAX_SAFE ? String(value) : '[bigint]'
  if (!isRecord(value)) return String(value)
  if (types.isProxy(value)) return '[proxy]'
  if (Array.isArray(value)) return `[list of ${value.length}]`
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  const keys = Object.keys(value)
  const others = keys.length > MAX_KEYS ? `, ${keys.length - MAX_KEYS} more` : ''
  return keys.length === 0 ? '[object]' : `[object with ${keys.slice(0, MAX_KEYS).join(', ')}${others}]`
}

// `otherwise` if it cannot be read.
function read(object: object, key: string, otherwise?: unknown): unknown {
  try {
    return Reflect.get(object, key)
  } catch {
    return otherwise
  }
}
