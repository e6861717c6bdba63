import { Buffer } from 'node:buffer'

// Fields of protobuf as texts whose characters stand for bytes: the engine joins texts by reference and copies them once,
// when they are written as Latin-1. https://protobuf.dev/programming-guides/encoding/#structure

const VARINT = 0
const FIXED64 = 1
const LENGTH_DELIMITED = 2
const FIXED32 = 5

const MAX_FIELD = 32
const MAX_SMALL = 128

const scratch = Buffer.alloc(256)

function tag(field: number, type: number): string {
  return varint((field << 3) | type)
}

function varint(low: number, high = 0): string {
  if (high === 0 && low < 0x80) return String.fromCharCode(low)
  return String.fromCharCode((low & 0x7f) | 0x80) + varint(((low >>> 7) | (high << 25)) >>> 0, high >>> 7)
}

/** The bytes of a whole number of up to 28 bits, `undefined` for any other. */
export function unsigned(value: number): string | undefined {
  if (value >>> 0 !== value || value >= 0x1000_0000) return undefined
  if (value < 0x80) return String.fromCharCode(value)
  if (value < 0x4000) return String.fromCharCode((value & 0x7f) | 0x80, value >>> 7)
  if (value < 0x20_0000) return String.fromCharCode((value & 0x7f) | 0x80, ((value >>> 7) & 0x7f) | 0x80, value >>> 14)
  return String.fromCharCode(
    (value & 0x7f) | 0x80,
    ((value >>> 7) & 0x7f) | 0x80,
    ((value >>> 14) & 0x7f) | 0x80,
    value >>> 21
  )
}

/** Made once each, for few are used and joining them takes as long as what they stand before. */
function kept(make: (field: number, value: number) => string): (field: number, value: number) => string {
  const texts: (string | undefined)[] = Array.from({ length: MAX_FIELD * MAX_SMALL })
  return (field, value) => {
    if (field >= MAX_FIELD || value >>> 0 !== value || value >= MAX_SMALL) return make(field, value)
    const index = field * MAX_SMALL + value
    const known = texts[index] ?? make(field, value)
    texts[index] = known
    return known
  }
}

/** What comes before so many bytes of a message or a text. */
export const lengthOf = kept((field, bytes) => tag(field, LENGTH_DELIMITED) + varint(bytes))

export function message(field: number, content: string): string {
  return lengthOf(field, content.length) + content
}

export function text(field: number, value: string): string {
  return message(field, utf8(value))
}

const MAX_KEPT = 256
let lastText = ''
let lastUtf8 = ''

// Many a text comes twice in a row, such as the id of a request that is a correlation's too.
export function utf8(value: string): string {
  if (value === lastText) return lastUtf8
  const encoded = Buffer.byteLength(value) === value.length ? value : Buffer.from(value).toString('latin1')
  if (value.length > MAX_KEPT) return encoded
  lastText = value
  lastUtf8 = encoded
  return encoded
}

export function bytes(field: number, content: Uint8Array): string {
  const { buffer, byteOffset, byteLength } = content
  return message(field, Buffer.from(buffer, byteOffset, byteLength).toString('latin1'))
}

/** Digits in pairs, as in the ids of traces and spans. */
export function hex(field: number, digits: string): string {
  const size = digits.length >> 1
  scratch.write(digits, 0, size, 'hex')
  return message(field, scratch.toString('latin1', 0, size))
}

/** An integer of up to 64 bits; negative ones as an int64. */
export const integer = kept(
  (field, value) => tag(field, VARINT) + varint(value >>> 0, Math.floor(value / 2 ** 32) >>> 0)
)

export function double(field: number, value: number): string {
  scratch.writeDoubleLE(value)
  return tag(field, FIXED64) + scratch.toString('latin1', 0, 8)
}

/** The field must be below 16, whose tag is a byte. */
export function fixed64(field: number, low: number, high: number): string {
  return String.fromCharCode(
    (field << 3) | FIXED64,
    low & 0xff,
    (low >>> 8) & 0xff,
    (low >>> 16) & 0xff,
    low >>> 24,
    high & 0xff,
    (high >>> 8) & 0xff,
    (high >>> 16) & 0xff,
    high >>> 24
  )
}

export function fixed32(field: number, value: number): string {
  return (
    tag(field, FIXED32) + String.fromCharCode(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24)
  )
}
