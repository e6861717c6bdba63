// A writer of protobuf fields that works from the last byte to the first: the length of a message stands before it and is
// known when the message has been written. So a message's fields are written in reverse, each after its content.
// https://protobuf.dev/programming-guides/encoding/#structure

const VARINT = 0
const FIXED64 = 1
const LENGTH_DELIMITED = 2
const FIXED32 = 5

const INITIAL_BYTES = 64 * 1024
// What a collector takes in one call, unless told otherwise.
const MAX_KEPT_BYTES = 4 * 1024 * 1024
// Up to here a loop is quicker than native code.
const MAX_SHORT_TEXT = 64
// Always free: no number or short text is longer with its tag and length.
const MARGIN = 128

let bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES)
let view = new DataView(bytes.buffer)
let start = bytes.length

/** Forgets what was written. */
export function begin(): void {
  if (bytes.length > MAX_KEPT_BYTES) use(Buffer.allocUnsafeSlow(INITIAL_BYTES))
  start = bytes.length
}

/** Copies what was written. */
export function copyTo(target: Buffer, at: number): void {
  bytes.copy(target, at, start)
}

export function written(): number {
  return bytes.length - start
}

/** A copy of what was written since then. */
export function writtenSince(end: number): Uint8Array {
  return Uint8Array.from(bytes.subarray(start, bytes.length - end))
}

/** Makes what was written since then the content of this field. */
export function endMessage(field: number, end: number): void {
  endContent(end)
  writeTag(field)
}

export function endContent(end: number): void {
  writeVarint(written() - end)
}

export function writeTag(field: number, type = LENGTH_DELIMITED): void {
  writeVarint((field << 3) | type)
  reserve(0)
}

export function writeText(field: number, text: string): void {
  const end = written()
  if (text.length > MAX_SHORT_TEXT || !isWrittenAsAscii(text)) {
    const size = Buffer.byteLength(text)
    reserve(size)
    start -= size
    bytes.write(text, start, size)
  }
  endMessage(field, end)
}

function isWrittenAsAscii(text: string): boolean {
  const target = bytes
  const from = start - text.length
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code > 0x7f) return false
    target[from + index] = code
  }
  start = from
  return true
}

/** Digits in pairs, as in the ids of traces and spans. */
export function writeHex(field: number, digits: string): void {
  const end = written()
  reserve(digits.length)
  for (let index = digits.length & ~1; index > 0; ) {
    const low = nibble(digits.charCodeAt(--index))
    bytes[--start] = (nibble(digits.charCodeAt(--index)) << 4) | low
  }
  endMessage(field, end)
}

function nibble(digit: number): number {
  return (digit & 0xf) + (digit >> 6) * 9
}

export function writeBytes(content: Uint8Array): void {
  const { length } = content
  reserve(length)
  start -= length
  if (length > MAX_SHORT_TEXT) {
    bytes.set(content, start)
    return
  }
  const target = bytes
  const to = start
  for (let index = 0; index < length; index++) target[to + index] = content[index] ?? 0
}

/** An integer of up to 64 bits; negative ones as an int64. */
export function writeInteger(field: number, value: number): void {
  writeVarint(value >>> 0, Math.floor(value / 2 ** 32) >>> 0)
  writeTag(field, VARINT)
}

function writeVarint(low: number, high = 0): void {
  if (high === 0 && low < 0x80) {
    bytes[--start] = low
  } else {
    writeVarint(((low >>> 7) | (high << 25)) >>> 0, high >>> 7)
    bytes[--start] = (low & 0x7f) | 0x80
  }
}

export function writeDouble(field: number, value: number): void {
  start -= 8
  view.setFloat64(start, value, true)
  writeTag(field, FIXED64)
}

export function writeFixed64(field: number, low: number, high: number): void {
  start -= 8
  view.setUint32(start, low, true)
  view.setUint32(start + 4, high, true)
  writeTag(field, FIXED64)
}

export function writeFixed32(field: number, value: number): void {
  start -= 4
  view.setUint32(start, value, true)
  writeTag(field, FIXED32)
}

function reserve(size: number): void {
  if (start < size + MARGIN) use(Buffer.allocUnsafeSlow(2 * (bytes.length + size)), written())
}

function use(fresh: Buffer<ArrayBuffer>, kept = 0): void {
  start = fresh.length - kept
  fresh.set(bytes.subarray(bytes.length - kept), start)
  bytes = fresh
  view = new DataView(fresh.buffer)
}
