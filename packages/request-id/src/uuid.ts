import { randomFillSync } from 'node:crypto'

const DIGITS = Uint8Array.from('0123456789abcdef', (digit) => digit.charCodeAt(0))
const RANDOM_BYTES = 10
// Drawn for many at once: a draw costs more than the rest.
const pool = new Uint8Array(RANDOM_BYTES * 256)
let used = pool.length

// The text of the last one: most of its time is that of the next one too, and no other string is made on the way.
const text = Buffer.from('00000000-0000-7000-8000-000000000000', 'latin1')
let timeMs = 0

/**
 * A UUID that sorts by its time of creation, to the millisecond.
 * @see https://www.rfc-editor.org/rfc/rfc9562#section-5.7
 */
export function uuidv7(): string {
  const now = Date.now()
  if (now !== timeMs) {
    const time = now.toString(16).padStart(12, '0')
    text.write(`${time.slice(0, 8)}-${time.slice(8)}`, 'latin1')
    timeMs = now
  }
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  // The version 7 and the variant 10 stand where the bits of a random byte would.
  writeRandom(14, 0x0f, 0x70)
  writeRandom(16)
  writeRandom(19, 0x3f, 0x80)
  writeRandom(21)
  for (let at = 24; at < text.length; at += 2) writeRandom(at)
  return text.toString('latin1')
}

function writeRandom(at: number, kept = 0xff, fixed = 0): void {
  const byte = ((pool[used++] ?? 0) & kept) | fixed
  text[at] = DIGITS[byte >> 4] ?? 0
  text[at + 1] = DIGITS[byte & 0x0f] ?? 0
}
