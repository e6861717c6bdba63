import { request } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import { test } from 'tap'
import { Hostile, type Line, nested, service, throwing } from './guarded.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

const { line } = service()

const FORMS: [args: unknown[], expected: Line][] = [
  [['text'], { msg: 'text' }],
  [[{ a: 1 }, 'text'], { a: 1, msg: 'text' }],
  [[{ a: 1, msg: 'own' }], { a: 1, msg: 'own' }],
  [['%s is %d, %i, %j, %o and 100%%', 'a', 1.5, 1.5, { b: 1 }, [2]], { msg: 'a is 1.5, 1, {"b":1}, [2] and 100%' }],
  [['%s and %s', 'one'], { msg: 'one and %s' }],
  [[{ a: 1 }, '%s', Symbol('b')], { a: 1, msg: 'Symbol(b)' }],
  [[undefined, 'text'], { msg: 'text' }],
  [[null], {}],
  [[], {}],
  [[7n], { msg: '7' }],
  [[() => 1], { msg: '[function]' }],
  [[{ a: 1 }, { b: 2 }], { a: 1, msg: '{"b":2}' }],
  [[[1, 2], 'text'], { value: [1, 2], msg: 'text' }]
]

test('takes what pino takes', async (t) => {
  for (const [args, expected] of FORMS) t.same(line(...args), expected)
})

test('writes an error with its code, its causes and its parts, wherever it is passed', async (t) => {
  const why = Object.assign(new Error('why'), { code: 'E_WHY' })
  const error = new TypeError('boom', { cause: new AggregateError([why, 'text'], 'many') })
  const err = {
    type: 'TypeError',
    message: 'boom',
    stack: error.stack,
    cause: {
      type: 'AggregateError',
      message: 'many',
      errors: [
        { type: 'Error', message: 'why', code: 'E_WHY' },
        { type: 'string', message: 'text' }
      ]
    }
  }
  t.match(line(error), { err, msg: 'boom' })
  t.match(line(error, 'failed'), { err, msg: 'failed' })
  t.match(line({ err: error, a: 1 }), { err, a: 1, msg: 'boom' })
  t.match(line('failed', error), { err, msg: 'failed' })
  t.match(line({ a: 1 }, error), { err, a: 1, msg: 'boom' })
  t.match(line({ deep: { reason: error } }), { deep: { reason: err } })
  t.match(line('failed: %s', why), { msg: 'failed: Error: why', err: undefined })
})

test('writes whatever was thrown', async (t) => {
  const circular: { cause?: unknown } & Error = new Error('round')
  circular.cause = circular
  let chain = new Error('0')
  for (let depth = 1; depth < 20; depth++) chain = new Error(String(depth), { cause: chain })
  const thrown: [unknown, Line][] = [
    [null, { type: 'null', message: 'null' }],
    ['text', { type: 'string', message: 'text' }],
    [7, { type: 'number', message: '7' }],
    [{ a: 1 }, { type: 'object', message: '{"a":1}' }],
    [
      { name: 'ApiError', message: 'like one', stack: 7 },
      { type: 'ApiError', message: 'like one' }
    ],
    [Object.freeze(new RangeError('frozen')), { type: 'RangeError', message: 'frozen' }],
    [new Hostile(), { type: 'Error', message: '[unreadable]' }],
    [circular, { message: 'round', cause: { message: '[circular]' } }],
    [new DOMException('gone', 'AbortError'), { type: 'AbortError', message: 'gone', code: 20 }]
  ]
  for (const [value, err] of thrown) t.match(line({ err: value }), { err })
  t.equal(JSON.stringify(line(chain)).match(/"cause"/g)?.length, 9, 'eight causes, and that there are more')
})

test('keeps the values of classes and built-ins readable', async (t) => {
  class Order {
    id = 7
    #secret = 1
    get total(): number {
      return this.#secret
    }
    ship = (): void => undefined
  }
  const values = {
    order: new Order(),
    none: Object.assign(Object.create(null), { a: 1 }),
    date: new Date(0),
    never: new Date(Number.NaN),
    map: new Map<unknown, unknown>([
      ['a', 1],
      [{ b: 2 }, new Set([3])]
    ]),
    bytes: Buffer.from('text'),
    big: 10n ** 30n,
    symbol: Symbol('s'),
    pattern: /a+/g,
    boxed: [Object(1), Object('a'), Object(false)],
    url: new URL('https://x.io/a'),
    money: { amount: 1, toJSON: () => '1 EUR' },
    broken: {
      amount: 1,
      toJSON: () => {
        throw new Error('no JSON')
      }
    },
    thenable: Object.fromEntries([['then', 1]]),
    holes: [1, undefined, () => 1, Number.NaN],
    nothing: undefined,
    call: () => 1
  }
  t.same(line(values), {
    order: { id: 7 },
    none: { a: 1 },
    date: '1970-01-01T00:00:00.000Z',
    never: '[invalid date]',
    map: { a: 1, '{"b":2}': [3] },
    bytes: '[4 bytes]',
    big: '1000000000000000000000000000000',
    symbol: 'Symbol(s)',
    pattern: '/a+/g',
    boxed: [1, 'a', false],
    url: 'https://x.io/a',
    money: '1 EUR',
    broken: { amount: 1 },
    thenable: values.thenable,
    holes: [1, null, null, null]
  })
})

test('cuts what is deep, wide, long, circular or unreadable', async (t) => {
  const deep: Line = {}
  let inner = deep
  for (let depth = 0; depth < 20; depth++) {
    const next: Line = { depth }
    inner.next = next
    inner = next
  }
  const circular: Line = { a: 1 }
  circular.self = { circular }
  const revoked = Proxy.revocable({}, {})
  revoked.revoke()
  const wide = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`k${index}`, index]))
  const many = Array.from({ length: 2000 }, () => ({ a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9, j: 10 }))

  t.match(JSON.stringify(line({ deep })), /"depth":6,"next":"\[too deep\]"/)
  t.same(line({ circular }), { circular: { a: 1, self: { circular: '[circular]' } } })
  t.same(line({ list: new Array(2 ** 32 - 1) }).list, [...new Array(1000).fill(null), `…[${2 ** 32 - 1001} more]`])
  t.equal(Object.keys(line(wide)).length, 1001)
  t.equal(line(wide)['…'], '[more]')
  t.equal(JSON.stringify(line({ many })).match(/"a"/g)?.length, 909, 'ten thousand entries in all')
  t.match(line({ text: 'x'.repeat(1e6) }).text, /^x{65536}…\[934464 more characters\]$/)
  t.ok(JSON.stringify(line({ many: new Array(100).fill('x'.repeat(60_000)) })).length < 300_000)
  t.match(line({ big: 1n << 100_000n }), { big: '[bigint]' })
  t.match(line({ revoked: revoked.proxy, traps: throwing() }), { revoked: '[unreadable]', traps: '[unreadable]' })
  t.match(line(throwing(), 'text'), { value: '[unreadable]', msg: 'text' })
  t.match(
    line({
      get a(): never {
        throw new Error('no')
      },
      b: 1
    }),
    { a: '[unreadable]', b: 1 }
  )
})

test("gives a user's field that has the name of one of the line an underscore", async (t) => {
  const own = { level: 1, time: 2, msg: 3, service: 4, request_id: 5, trace_id: 6, span_id: 7, method: 8, path: 9 }
  t.same(line({ ...own, level_: 0 }, 'text'), {
    ...{ level_: 1, time_: 2, msg_: 3, service_: 4, request_id_: 5, trace_id_: 6, span_id_: 7, method_: 8, path_: 9 },
    ...{ level__: 0, msg: 'text' }
  })
  t.same(line({ request: { id: 1, level: 2 } }), { request: { id: 1, level: 2 } }, 'at the top only')
  t.same(line(JSON.parse('{"__proto__":{"a":1}}')), { __proto___: { a: 1 } })
})

test('writes only method, path and status of requests and replies', async (t) => {
  const app = Fastify()
  app.get('/orders', async (req, reply) => [
    line({ req, res: reply, request: req.raw, reply: reply.raw, deep: { req, reply } }),
    line(req),
    line(reply.raw)
  ])
  t.teardown(() => app.close())
  const answer = await (await fetch(`${await app.listen({ port: 0 })}/orders?token=hunter2`)).json()
  const short = [{ method: 'GET', path: '/orders' }, { status_code: 200 }]
  const [req, res] = short
  t.same(answer, [{ req, res, request: req, reply: res, deep: { req, reply: res } }, { req }, { res }])
  t.same((await app.inject('/orders?token=hunter2')).json(), answer, 'over inject too')

  const outgoing = request(`${app.listeningOrigin}/orders?token=hunter2`, { headers: { authorization: 'hunter2' } })
  t.same(line({ outgoing }), { outgoing: { method: 'GET', path: '/orders' } })
  outgoing.destroy()
  outgoing.on('error', () => undefined)
})

const S = 'hunter2+/Q'
const BASE64 = Buffer.from(S).toString('base64')

const PLANTED: unknown[][] = [
  [{ password: S }],
  [{ Authorization: `Bearer ${S}` }],
  [{ headers: { AUTHORIZATION: S, 'set-Cookie': [S], 'X-Api-Key': S, 'Proxy-Authorization': BASE64 } }],
  [{ token: BASE64, secret: encodeURIComponent(S), api_key: { raw: S }, tokens: [S], cookies: new Map([['a', S]]) }],
  [nested(7, { password: S })],
  [nested(8, { password: S })],
  [nested(9, { password: S })],
  [{ body: JSON.stringify({ user: 'bob', password: S }) }],
  [{ body: new URLSearchParams({ password: S, a: 'b' }).toString() }],
  [{ url: `/x?a=1&access_token=${encodeURIComponent(S)}` }],
  [{ url: new URL(`https://bob:${encodeURIComponent(S)}@x.io/?token=${encodeURIComponent(S)}`) }],
  [new Map([['password', S]])],
  [{ map: new Map([['password', S]]), set: new Set([`password=${S}`]) }],
  [{ pairs: [['authorization', S]], rawHeaders: ['Host', 'x', 'Cookie', S] }],
  [{ har: [{ name: 'Cookie', value: S }] }],
  [{ env: { DB_PASSWORD: S, DATABASE_URL: `postgres://app:${S}@db/x` } }],
  [new Error(`password=${S}`)],
  [{ err: new Error('a', { cause: new Error(`Authorization: Basic ${BASE64}`) }) }],
  [new AggregateError([new Error('x'), new Error(`token: ${S}`)], 'many')],
  [{ err: { message: `token=${S}`, password: S } }],
  [{ err: { password: S } }],
  [new Error('a', { cause: { password: S } })],
  [new Error('a', { cause: `secret: ${S}` })],
  ['login with %s', `password=${S}`],
  ['password=%s', S],
  ['login %j', { password: S }],
  ['login %o', new Map([['password', S]])],
  [{ a: 1 }, { password: S }],
  [`GET / HTTP/1.1\r\ncookie: sid=${S}\r\n`],
  [Symbol(`password=${S}`)],
  [{ symbol: Symbol(`password=${S}`), pattern: new RegExp(`password=${S.replace(/\W/g, '.')}`) }],
  [{ [`password=${S}`]: 1 }],
  [{ boxed: Object(`password=${S}`) }],
  [{ toJSON: () => ({ password: S }) }],
  [
    new (class Login {
      password = S
      apiKey = S
    })()
  ],
  [Object.assign(Object.create(null), { password: S })],
  [{ list: [[[{ password: S }]]] }],
  [{ password: Buffer.from(S), secret: new Date(0), passphrase: Symbol(S) }],
  [new Proxy({ password: S }, {})],
  [Object.assign(new Error('x'), { code: `password=${S}`, name: `token=${S}` })]
]

test('lets none of 40 planted secrets into a line, of a call, of a child or of what is bound to it', async (t) => {
  t.equal(PLANTED.length, 40)
  const { log, raw, line } = service()
  for (const args of PLANTED) {
    line(...args)
    log.child(Object(args[0])).info('a child')
    const bound = log.child({})
    bound.setBindings(Object(args[0]))
    bound.info('bound')
  }
  const written = raw.join('')
  for (const secret of ['hunter2', encodeURIComponent(S), BASE64]) t.notOk(written.includes(secret), secret)
  t.equal(raw.length, 120)
})

test('says no more in the stack of an error than in its message', (t) => {
  const { err } = line(new Error('authorization: Custom one hunter2'))
  t.notMatch(JSON.stringify(err), 'hunter2')
  t.end()
})

test('cuts long keys, and remembers neither them nor more than some thousands', (t) => {
  const { safe } = service()
  const [[key = ''] = []] = Object.entries(safe.fields({ ['k'.repeat(1_000)]: 1 }))
  t.equal(key, `${'k'.repeat(256)}…`)
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  for (let number = 0; number < 100_000; number++) safe.fields({ [`a name of a field ${number} `.padEnd(64, 'x')]: 1 })
  collectGarbage()
  t.ok(process.memoryUsage().heapUsed - before < 5_000_000)
  safe.fields({})
  t.end()
})

test('keeps what is no secret', async (t) => {
  const plain = {
    author: 'Ann',
    token_count: 3,
    password: null,
    secret: '',
    has_token: true,
    session: false,
    ids: ['token']
  }
  t.same(line(plain, 'took 3 ms: ok'), { ...plain, msg: 'took 3 ms: ok' })
})

test('keeps, with an allow-list, only what it lists, and errors', async (t) => {
  const { line } = service({ allow: ['order', 'id'] })
  t.match(line({ order: { id: 1, email: 'a@b.c' }, user: { id: 2 }, status_code: 200, err: new Error('boom') }), {
    order: { id: 1, email: '[redacted]' },
    user: '[redacted]',
    status_code: 200,
    err: { type: 'Error', message: 'boom', stack: /boom/ }
  })
})

test('makes one line of every kind of line end', async (t) => {
  const { raw, line } = service()
  t.equal(line('a\nb\rc\u2028d\u2029e\u0085f\u000bg').msg, 'a\nb\rc\nd\ne\nf\u000bg')
  t.match(raw[0], /^[^\n\r\u2028\u2029\u0085]+\n$/)
})

test('gives serializers the values as passed, and survives them', async (t) => {
  const { log, last } = service()
  class User {
    #name = 'Ann'
    name(): string {
      return this.#name
    }
  }
  const serializers = {
    user: (user: User) => ({ name: user.name(), password: S }),
    bad: () => {
      throw new Error('no')
    }
  }
  log.child({ user: new User() }, { serializers }).info({ user: new User(), bad: 1 }, 'text')
  t.same(last(), { user: { name: 'Ann', password: '[redacted]' }, bad: '[unreadable]', msg: 'text' })
  log.child({}, { serializers }).child({ a: 1 }).info({ user: new User() })
  t.same(last(), { a: 1, user: { name: 'Ann', password: '[redacted]' } }, 'also of children of children')
})

test('hands over the line that pino cannot write, instead of throwing', async (t) => {
  const { log, raw, lost } = service()
  const censor = (): never => {
    throw new Error('no')
  }
  log.child({}, { redact: { paths: ['a'], censor } }).info({ a: 1 })
  t.same(raw, [])
  t.match(lost, [{ message: 'no' }])
})

test('survives being called by what it reads', async (t) => {
  const { log, raw } = service()
  const nosy = {
    get again(): number {
      log.info({ nosy }, 'from within')
      return 1
    }
  }
  log.info({ nosy }, 'outside')
  t.match(JSON.parse(raw.at(-1) ?? ''), { msg: 'outside' })
})
