import { randomFillSync } from 'node:crypto'

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
const RANDOM_BYTES = 10
// Drawn for many at once: a draw costs more than the rest.
const pool = new Uint8Array(RANDOM_BYTES * 256)
let used = pool.length

const TWO_BYTES = 0x1_0000
let timeMs = 0
let timePart = ''
let high = 0
let highText = ''

/**
 * A UUID that sorts by its time of creation, to the millisecond.
 * @see https://www.rfc-editor.org/rfc/rfc9562#section-5.7
 */
export function uuidv7(): string {
  const now = Date.now()
  if (now !== timeMs) {
    timeMs = now
    timePart = textOf(now)
  }
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const at = used
  used += RANDOM_BYTES
  // The version 7 and the variant 10 stand where the bits of a random byte would.
  return `${timePart}${hex(at, 0x0f, 0x70)}${hex(at + 1)}-${hex(at + 2, 0x3f, 0x80)}${hex(at + 3)}-${hex(at + 4)}${hex(at + 5)}${hex(at + 6)}${hex(at + 7)}${hex(at + 8)}${hex(at + 9)}`
}

function textOf(now: number): string {
  const low = now % TWO_BYTES
  const rest = (now - low) / TWO_BYTES
  // These four bytes change once a minute.
  if (rest !== high) {
    high = rest
    highText = rest.toString(16).padStart(8, '0')
  }
  return `${highText}-${HEX[low >> 8]}${HEX[low & 0xff]}-`
}

function hex(at: number, kept = 0xff, fixed = 0): string | undefined {
  return HEX[((pool[at] ?? 0) & kept) | fixed]
}
