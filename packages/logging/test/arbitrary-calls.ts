import fc from 'fast-check'
import type { Test } from 'tap'
import { Hostile, NO, nested, service, throwing } from './guarded.ts'

const NASTY = [
  '\u0000',
  '\n',
  '\r\n',
  '\u001b[31m',
  '\u0085',
  '\u2028',
  '\u2029',
  '\ud800',
  '\udfff',
  '😀',
  '"',
  '\\',
  '%s%d%j',
  '%'
]
const NAMES = [
  'level',
  'time',
  'msg',
  'err',
  'req',
  'res',
  'value',
  'name',
  'toJSON',
  'then',
  'hasOwnProperty',
  'toString'
]
const strings = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom(...NASTY, 'a', ' ', '=', ':') }),
  fc.string({
    maxLength: 40,
    unit: fc.constantFrom('password', 'token', '=', ':', '%3D', '"', '{', ' ', 'Bearer ', 'eyJ.')
  }),
  fc.tuple(fc.string(), fc.integer({ min: 1, max: 3000 })).map(([unit, times]) => unit.slice(0, 4).repeat(times))
)
const keys = fc.oneof(
  fc.string(),
  strings,
  fc.constantFrom(...NAMES, '__proto__', 'constructor', 'password', 'method', 'headers', 'socket')
)
const leaves = fc.oneof(
  strings,
  fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true
  }),
  fc.bigInt().map((value) => value ** 50n),
  fc.string().map(Symbol),
  fc.constantFrom<unknown>(undefined, null, Symbol.iterator, Number.NaN, -0, /a/, new Date(Number.NaN), class {})
)
const worst = fc.constantFrom<Make>(
  () => throwing(),
  () => new Hostile(),
  () => Object.create(Hostile.prototype),
  () => Object.create(Date.prototype),
  () => JSON.parse('{"__proto__":{"hasOwnProperty":1}}'),
  () => new WeakMap(),
  () => Promise.resolve(),
  () => process,
  () => 'x'.repeat(1e6),
  () => globalThis,
  () => Object.create(null, { toString: { value: 1, enumerable: true } })
)

/** Makes anything, and worse; fast-check itself would not survive to hold it. */
type Make = () => unknown
const { hostile } = fc.letrec<{ hostile: Make }>((tie) => {
  const inner = tie('hostile')
  const traps = fc.subarray(['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor'])
  const object = fc
    .array(fc.tuple(keys, inner), { maxLength: 4 })
    .map((entries) => () => Object.fromEntries(entries.map(([key, make]) => [key, make()])))
  return {
    hostile: fc.oneof(
      { depthSize: 'small' },
      leaves.map((value) => () => value),
      worst,
      object,
      fc.array(inner, { maxLength: 4 }).map((items) => () => items.map((make) => make())),
      object.map((make) => () => circular(make())),
      fc.tuple(object, traps).map(
        ([make, names]) =>
          () =>
            trapped(make(), names)
      ),
      fc.tuple(keys, fc.boolean()).map(
        ([key, frozen]) =>
          () =>
            withThrowingGetter(key, frozen)
      ),
      inner.map((make) => () => ({ a: 1, toJSON: make })),
      fc.tuple(strings, inner).map(
        ([message, cause]) =>
          () =>
            new Error(message, { cause: cause() })
      ),
      fc.tuple(leaves, leaves).map(
        ([message, code]) =>
          () =>
            Object.assign(new Error(), { message, code })
      ),
      fc.array(inner, { maxLength: 3 }).map(
        (parts) => () =>
          new AggregateError(
            parts.map((make) => make()),
            'many'
          )
      ),
      fc.tuple(fc.integer({ min: 1, max: 5000 }), inner).map(
        ([depth, make]) =>
          () =>
            nested(depth, make())
      ),
      fc.tuple(fc.integer({ min: 0, max: 3000 }), leaves).map(
        ([length, value]) =>
          () =>
            new Array(length).fill(value)
      )
    )
  }
})

function circular(object: object): object {
  return Object.assign(object, { self: object, deep: { self: [object] } })
}

function trapped(object: object, names: string[]): object {
  const trap = (): never => {
    throw object
  }
  return new Proxy(object, Object.fromEntries(names.map((name) => [name, trap])))
}

function withThrowingGetter(key: string, frozen: boolean): object {
  const object = Object.defineProperty({ a: 1 }, key, {
    enumerable: true,
    get: () => {
      throw NO
    }
  })
  return frozen ? Object.freeze(object) : object
}

const levels = fc.constantFrom('fatal', 'error', 'warn', 'info')

/** Makes a test of so many calls with whatever a program may log. */
export function arbitraryCalls(test: Test['test'], numRuns: number): void {
  test(`makes exactly one line, which is JSON, of each of ${numRuns} arbitrary calls`, async (t) => {
    const { log, raw, lost } = service()
    let calls = 0
    const call = fc.property(
      fc.array(hostile, { maxLength: 4 }),
      levels,
      fc.option(hostile),
      (args, level, bindings) => {
        const logger = bindings === null ? log : Reflect.apply(log.child, log, [bindings()])
        Reflect.apply(
          logger[level],
          logger,
          args.map((make) => make())
        )
        calls++
        const written = raw.splice(0)
        if (written.length !== 1) throw new Error(`${written.length} lines`)
        if (!/^[^\n\r\u0085\u2028\u2029]+\n$/.test(written[0] ?? '')) throw new Error('not one line')
        JSON.parse(written[0] ?? '')
      }
    )
    fc.assert(call, { numRuns, endOnFailure: true })
    t.equal(calls, numRuns)
    t.same(lost, [])
  })
}
