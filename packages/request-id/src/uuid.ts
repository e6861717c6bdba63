import { randomUUID } from 'node:crypto'

let timeMs = 0
let timePart = ''

/**
 * A UUID that sorts by its time of creation, to the millisecond.
 * @see https://www.rfc-editor.org/rfc/rfc9562#section-5.7
 */
export function uuidv7(): string {
  const now = Date.now()
  if (now !== timeMs) {
    const time = now.toString(16).padStart(12, '0')
    timeMs = now
    timePart = `${time.slice(0, 8)}-${time.slice(8)}-7`
  }
  // Everything behind the version digit of a random UUID is random, but for the variant that both share.
  return timePart + randomUUID().slice(15)
}
