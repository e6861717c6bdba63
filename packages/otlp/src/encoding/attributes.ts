import { Buffer } from 'node:buffer'
import { byPlace, isRecord } from '@fastify-observability/observation/internal'
import { bytes, double, integer, lengthOf, message, text, unsigned, utf8 } from './protobuf.ts'

const SPAN_ATTRIBUTES = 9
const MAX_KEYS = 512
const MAX_KEY = 1_024
const MAX_KEPT_LENGTH = 127
// The tag of an AnyValue's integer.
const INTEGER = integer(3, 0).slice(0, 1)

/** What an attribute of a span begins with. */
interface Key {
  /** The field of the key. */
  field: string
  /** All that comes before a text, by its bytes. */
  heads: (string | undefined)[]
  /** All that comes before a whole number, by its bytes. */
  numberHeads: (string | undefined)[]
  /** The last value, and the attribute with it where it came twice in a row, as most do. */
  last: unknown
  lastField: string | undefined
}

/** An attribute, and the one after it. */
export interface ChainedAttribute {
  readonly name: string
  readonly value: unknown
  readonly next: ChainedAttribute | undefined
}

const keys = new Map<string, Key>()
const keyAt = byPlace(keyOf)

/** An attribute of a span. */
export function spanAttribute(key: string, value: unknown): string {
  return spanAttributeOf(keyOf(key), value)
}

/** Attributes of a span, joined to each other before they are joined to all else, which is longer. */
export function spanAttributes(first: ChainedAttribute | undefined): string {
  let content = ''
  let place = 0
  for (let attribute = first; attribute !== undefined; attribute = attribute.next) {
    const { name, value } = attribute
    const key = keyAt(name, place++)
    if (value !== key.last) {
      content += spanAttributeOf(key, value)
      key.last = isShort(value) ? value : undefined
      key.lastField = undefined
    } else {
      key.lastField ??= inOnePiece(spanAttributeOf(key, value))
      content += key.lastField
    }
  }
  return content
}

/** The attributes of a span, without those that have no value. */
export function presentAttributesOf(attributes: Readonly<Record<string, unknown>>): string {
  let content = ''
  for (const key in attributes)
    if (attributes[key] !== undefined) content += attributeOf(SPAN_ATTRIBUTES, key, attributes[key])
  return content
}

export function attributesOf(field: number, attributes: Readonly<Record<string, unknown>>): string {
  let content = ''
  for (const key of Object.keys(attributes)) content += attributeOf(field, key, attributes[key])
  return content
}

/** One attribute of a message that has them in this field. */
function attributeOf(field: number, key: string, value: unknown): string {
  const known = keyOf(key)
  return field === SPAN_ATTRIBUTES ? spanAttributeOf(known, value) : message(field, known.field + valueField(2, value))
}

function spanAttributeOf({ field: name, heads, numberHeads }: Key, value: unknown): string {
  if (typeof value === 'number') {
    const content = unsigned(value)
    if (content === undefined) return message(SPAN_ATTRIBUTES, name + valueField(2, value))
    const known = numberHeads[content.length]
    if (known !== undefined) return known + content
    const head = headOf(name, content.length, INTEGER)
    numberHeads[content.length] = inOnePiece(head)
    return head + content
  }
  if (typeof value !== 'string') return message(SPAN_ATTRIBUTES, name + valueField(2, value))
  const content = utf8(value)
  const known = heads[content.length]
  if (known !== undefined) return known + content
  const head = headOf(name, content.length, lengthOf(1, content.length))
  if (content.length <= MAX_KEPT_LENGTH) heads[content.length] = inOnePiece(head)
  return head + content
}

/** Whether the value may be kept: it does not change, and takes little memory. */
function isShort(value: unknown): boolean {
  return typeof value === 'string'
    ? value.length <= MAX_KEPT_LENGTH
    : typeof value === 'boolean' || typeof value === 'number'
}

function headOf(name: string, length: number, any: string): string {
  const value = lengthOf(2, any.length + length) + any
  return lengthOf(SPAN_ATTRIBUTES, name.length + value.length + length) + name + value
}

function keyOf(name: string): Key {
  const known = keys.get(name)
  if (known !== undefined) return known
  const key = { field: text(1, name), heads: [], numberHeads: [], last: undefined, lastField: undefined }
  if (keys.size < MAX_KEYS && name.length <= MAX_KEY) keys.set(name, key)
  return key
}

/** The same text, not as the pieces that it was joined from. */
export function inOnePiece(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

/** A field that is an AnyValue. */
export function valueField(field: number, value: unknown): string {
  return message(field, anyOf(value))
}

function anyOf(value: unknown): string {
  if (typeof value === 'string') return text(1, value)
  if (typeof value === 'boolean') return integer(2, value ? 1 : 0)
  if (typeof value === 'number') return numberOf(value)
  if (value instanceof Uint8Array) return bytes(7, value)
  if (Array.isArray(value)) return message(5, value.map((item) => valueField(1, item)).join(''))
  return isRecord(value) ? message(6, attributesOf(1, value)) : ''
}

function numberOf(value: number): string {
  // All that an int64 holds, safe or not.
  const isInteger = Number.isInteger(value) && value >= -(2 ** 63) && value < 2 ** 63
  return isInteger ? integer(3, value) : double(4, value)
}
