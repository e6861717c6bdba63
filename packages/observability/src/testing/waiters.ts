import { inspect, isDeepStrictEqual } from 'node:util'
import { clearTimeout, documented, isRecord, setTimeout, sleep } from '@fastify-observability/observation/internal'
import type { Which } from './seen.ts'

/** What is waited for. */
interface Wait<Found> {
  find(): Found | undefined | Promise<Found | undefined>
  /** For the error: what is missing, such as `no request matches { route: '/' }`. */
  readonly missing: string
  /** For the error: what there is instead. */
  describe(): string
  readonly timeoutMs: number
  /** Whether it may be found although nobody reports a change, as numbers change. */
  readonly isPolled?: boolean
}

export interface Waiters {
  /** Resolves with what is found, now or after a change. */
  wait<Found>(wait: Wait<Found>): Promise<Found>
  /** Something new may be found. */
  changed(): void
  /** Nothing will be found any more, for this reason. */
  end(reason: string): void
}

const POLL_MS = 20
const NAME = 'fastify-observability/testing'

export function createWaiters(): Waiters {
  let change = Promise.withResolvers<void>()
  let ended: string | undefined

  return {
    async wait<Found>({ find, missing, describe, timeoutMs, isPolled = false }: Wait<Found>): Promise<Found> {
      // Here, and not where the time is up, whose stack leads nowhere.
      const error = documented(new Error(), 'in-tests')
      const late = Promise.withResolvers<void>()
      let isLate = false
      const timer = setTimeout(() => {
        isLate = true
        late.resolve()
      }, timeoutMs)
      try {
        for (;;) {
          // Asked for before: what changes while it is looked for counts.
          const { promise } = change
          const found = await find()
          if (found !== undefined) return found
          if (isLate || ended !== undefined) {
            const reason = ended ?? `within ${timeoutMs} ms`
            throw retold(error, `${NAME}: ${missing} ${reason}; ${describe()}`)
          }
          await Promise.race([promise, late.promise, ...(isPolled ? [sleep(POLL_MS)] : [])])
        }
      } finally {
        clearTimeout(timer)
      }
    },
    changed() {
      change.resolve()
      change = Promise.withResolvers()
    },
    end(reason) {
      ended ??= reason
      change.resolve()
    }
  }
}

/** The test that an item has to pass. @param text what a mere text stands for */
export function testOf<Item extends object>(
  which: string | Which<Item> | undefined,
  text?: keyof Item & string
): (item: Item) => boolean {
  if (which === undefined) return () => true
  if (isTest(which)) return which
  const wanted = typeof which === 'string' ? { [text ?? '']: which } : which
  return (item) => has(item, wanted)
}

function isTest<Item>(which: string | Which<Item>): which is (item: Item) => boolean {
  return typeof which === 'function'
}

/** What was waited for, in words. */
export function wordsOf(which: unknown): string {
  if (which === undefined) return ''
  if (typeof which === 'function') return ` that matches ${String(which)}`
  return ` that matches ${inspect(which, { breakLength: Number.POSITIVE_INFINITY })}`
}

function has(actual: unknown, wanted: unknown): boolean {
  if (wanted instanceof RegExp) return typeof actual === 'string' && new RegExp(wanted).test(actual)
  if (!isPlain(wanted)) return isDeepStrictEqual(actual, wanted)
  return isRecord(actual) && Object.entries(wanted).every(([name, value]) => has(actual[name], value))
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return isRecord(value) && Object.getPrototypeOf(value) === Object.prototype
}

function retold(error: Error, message: string): Error {
  const frames = (error.stack ?? '').split('\n').slice(1)
  error.message = message
  error.stack = [`Error: ${message}`, ...frames].join('\n')
  return error
}
