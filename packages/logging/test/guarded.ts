import { createRedactor, type RedactOptions } from '@fastify-observability/observation/internal'
import { OWN_NAMES } from '../src/fields.ts'
import { guardedPino } from '../src/guard.ts'
import { createSafe } from '../src/safe.ts'

export type Line = Record<string, unknown>

/** A guarded pino that writes into an array, and its safe. */
export function service(options?: RedactOptions) {
  const safe = createSafe(createRedactor(options, OWN_NAMES))
  const raw: string[] = []
  const lost: unknown[] = []
  const write = (line: string): void => void raw.push(line)
  const log = guardedPino(safe, { base: null, timestamp: false }, { write }, { lost: (error) => lost.push(error) })
  const last = (): Line => {
    const { level, ...fields } = JSON.parse(raw.at(-1) ?? '')
    return fields
  }
  /** The line that a log call with these arguments makes. */
  const line = (...args: unknown[]): Line => {
    Reflect.apply(log.info, log, args)
    return last()
  }
  return { safe, log, raw, lost, line, last }
}

export const NO = new Error('no')

/** An error that throws when it is read. */
export class Hostile extends Error {
  override get message(): string {
    throw NO
  }
  override get stack(): string {
    throw NO
  }
}

/** An object so many levels deep. */
export function nested(depth: number, leaf: unknown): unknown {
  return depth === 0 ? leaf : { next: nested(depth - 1, leaf) }
}

/** An object whose field throws when it is read. */
export function throwing(): object {
  const trap = (): never => {
    throw NO
  }
  return new Proxy({}, { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap, getOwnPropertyDescriptor: trap })
}
