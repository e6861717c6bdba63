import { test } from 'tap'
import { errorName } from '../src/values/error-name.ts'
import { isErrorToRead, thrownText, thrownTexts } from '../src/values/thrown.ts'

const refuse = (): never => {
  throw new Error('hands off')
}
const traps = { get: refuse, has: refuse, ownKeys: refuse, getPrototypeOf: refuse, getOwnPropertyDescriptor: refuse }
const many = Object.fromEntries(Array.from({ length: 13 }, (_, index) => [`k${index}`, index]))
const without = (key: string): Error => Object.defineProperty(new TypeError('boom'), key, { get: refuse })

test('says of whatever was thrown what it is, and of lists and objects not what they hold', async (t) => {
  const said: [thrown: unknown, name: string, message: string][] = [
    ['text', 'string', 'text'],
    [7, 'number', '7'],
    [7n, 'bigint', '7'],
    [10n ** 5_000n, 'bigint', '[bigint]'],
    [true, 'boolean', 'true'],
    [null, 'object', 'null'],
    [undefined, 'undefined', 'undefined'],
    [Symbol('s'), 'symbol', 'Symbol(s)'],
    [() => 'held', 'function', '[function]'],
    [class Held {}, 'function', '[function]'],
    [['authorization', 'held'], 'object', '[list of 2]'],
    [{ password: 'held' }, 'object', '[object with password]'],
    [{ message: 'of a rejection', code: 7 }, 'object', 'of a rejection'],
    [{ message: ['held'] }, 'object', '[object with message]'],
    [{ toString: () => 'held' }, 'object', '[object with toString]'],
    [{ toString: refuse, toJSON: refuse, [Symbol.toPrimitive]: refuse }, 'object', '[object with toString, toJSON]'],
    [many, 'object', `[object with ${Object.keys(many).slice(0, 10).join(', ')}, 3 more]`],
    [Buffer.from('held'), 'object', '[4 bytes]'],
    [new Map([['password', 'held']]), 'object', '[object]'],
    [Object.create(null), 'object', '[object]'],
    [
      {
        get message() {
          return refuse()
        }
      },
      'object',
      '[unreadable]'
    ],
    [new Proxy({}, traps), 'object', '[proxy]'],
    [new Proxy(new Error('boom'), traps), 'object', '[proxy]'],
    [Object.create(new Proxy({}, traps)), 'object', '[unreadable]'],
    [Object.assign(new Error(), { message: ['held'] }), 'Error', '[list of 1]'],
    [Object.assign(new Error(), { message: undefined }), 'Error', ''],
    [Object.assign(new Error('boom'), { name: ['held'] }), 'Error', 'boom'],
    [without('message'), 'TypeError', '[unreadable]'],
    [without('name'), 'Error', 'boom'],
    [without('stack'), 'TypeError', 'boom']
  ]
  for (const [index, [thrown, name, message]] of said.entries()) {
    t.match(thrownTexts(thrown), { name, message }, `${index}: ${message}`)
    t.equal(thrownText(thrown), message)
  }
})

test('shows no list that an error has as its name or message in its stack', async (t) => {
  for (const fields of [{ message: ['held'] }, { name: ['held'] }]) {
    const { stack = '' } = thrownTexts(Object.assign(new Error('boom'), fields))
    t.match(stack, /^Error: (?:boom|\[list of 1\])\n {4}at /)
    t.notMatch(stack, 'held')
  }
})

test('asks no proxy, whose traps may never return', async (t) => {
  let asked = 0
  const count = (): undefined => void asked++
  const proxy = new Proxy(new Error('boom'), {
    get: count,
    has: () => count() ?? false,
    getPrototypeOf: () => count() ?? null
  })
  t.same(thrownTexts(proxy), { name: 'object', message: '[proxy]' })
  t.equal(isErrorToRead(proxy), false)
  t.equal(errorName(proxy), undefined)
  t.equal(asked, 0)
})

test('names an error by its code or class, briefly and without secrets', async (t) => {
  const named = (fields: object): string | undefined => errorName(Object.assign(new RangeError('boom'), fields))
  t.equal(named({}), 'RangeError')
  t.equal(named({ code: 'E_BOOM' }), 'E_BOOM')
  t.equal(named({ code: 7 }), 'RangeError')
  t.equal(named({ name: ['held'] }), 'Error')
  t.equal(named({ code: 'password=held' }), 'password=[redacted]')
  t.equal(named({ code: 'x'.repeat(1_000) }), 'x'.repeat(128))
  t.same(['text', null, { name: 'a' }, without('name')].map(errorName), [undefined, undefined, undefined, undefined])
})
