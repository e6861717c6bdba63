import { stripVTControlCharacters } from 'node:util'
import Fastify from 'fastify'
import { test } from 'tap'
import logging, { createLogger } from '../src/index.ts'
import { createPretty, wantsColors } from '../src/pretty.ts'

const pretty = createPretty({ messageKey: 'msg', errorKey: 'err' }, false)

/** A row without what differs from run to run. */
function steady(row: string): string {
  return row.replace(/^\d\d:\d\d:\d\d\.\d{3}/, 'TIME').replace(/\d+\.\d ms/, 'MS')
}

test('writes one row a request, with what it logged above it', async (t) => {
  const rows: string[] = []
  const app = Fastify({ genReqId: () => '01a20469-2994-7015-a43c-78ccf73c687a' })
  const stream = { write: (row: string) => void rows.push(steady(row)) }
  await app.register(logging, { format: 'pretty', stream })
  app.get('/orders/:id', async ({ log }) => log.warn({ order: 7, items: ['a b'] }, 'look here'))
  await app.inject('/orders/7?page=2')
  await app.inject('/nowhere')
  t.same(rows, [
    'TIME WARN  look here order=7 items=["a b"] f73c687a\n',
    'TIME INFO  GET /orders/7 200 MS f73c687a\n',
    'TIME WARN  GET /nowhere 404 MS f73c687a\n'
  ])
})

test('writes an error with the frames of the application below it, and its causes', async (t) => {
  const rows: string[] = []
  const log = createLogger({ format: 'pretty', stream: { write: (row) => void rows.push(steady(row)) } })
  const cause = Object.assign(new RangeError('why'), { code: 'E_WHY' })
  log.error(new AggregateError([new Error('part')], 'boom', { cause }))
  const [first, error, frame, ...others] = (rows[0] ?? '').trimEnd().split('\n')
  t.same([first, error], ['TIME ERROR boom', '  AggregateError: boom'])
  t.match(frame, /^ {4}at .*packages\/logging\/test\/pretty\.test\.ts:\d+:\d+/)
  t.match(
    others.filter((row) => !row.startsWith('    ')),
    ['  one of them: Error: part', '  caused by RangeError: why (E_WHY)']
  )
  t.notMatch(rows[0], /node:|node_modules/)
})

test('shows the first frame of an error that has none of the application', async (t) => {
  const stack = 'Error: a\n    at read (node:fs:1:2)\n    at x (/srv/node_modules/y/z.js:1:2)'
  const row = pretty(JSON.stringify({ level: 'error', msg: 'a', err: { type: 'Error', message: 'a', stack } }))
  t.equal(row, ' ERROR a\n  Error: a\n    at read (node:fs:1:2)\n'.trimStart())
})

test('lets no text of a caller begin a row or steer the terminal', async (t) => {
  const msg = 'a\n12:00:00.000 INFO  forged\u001b[2J\u0085b'
  const row = pretty(JSON.stringify({ level: 'info', msg, [msg]: msg, path: msg }))
  t.equal(row.split('\n').length, 2)
  t.equal(stripVTControlCharacters(row), row)
  t.match(row, 'a\\n12:00:00.000 INFO  forged')
})

test('writes lines of other keys, numbers and forms, and passes on what is no JSON', async (t) => {
  const own = createPretty({ messageKey: 'message', errorKey: 'error' }, false)
  t.match(
    own('{"level":50,"time":1700000000000,"message":"a","error":{"type":"E","message":"b"}}'),
    /ERROR a\n {2}E: b\n$/
  )
  t.equal(own('{"severity":"X","err":"odd"}'), '      severity=X err=odd\n')
  t.equal(own('{"level":"audit","time":"never","message":"a"}'), 'never AUDIT a\n')
  t.equal(own('no JSON\n'), 'no JSON\n')
  t.equal(own('7'), '7')
})

test('shows that a request was aborted, and its Sentry event', async (t) => {
  const line = { level: 'warn', route: '/', status_code: 499, duration_ms: 12, aborted: true, sentry_event_id: 'e1' }
  t.equal(
    pretty(JSON.stringify({ ...line, method: 'GET', path: '/a' })),
    'WARN  GET /a 499 12.0 ms aborted sentry_event_id=e1\n'
  )
})

test('colours in a terminal, as NO_COLOR and FORCE_COLOR say', async (t) => {
  const row = createPretty({ messageKey: 'msg', errorKey: 'err' }, true)('{"level":"info","msg":"a"}')
  t.not(stripVTControlCharacters(row), row)
  t.equal(stripVTControlCharacters(row), 'INFO  a\n')
  t.same([wantsColors({}, true), wantsColors({}, false)], [true, false])
  t.same([wantsColors({ NO_COLOR: '1' }, true), wantsColors({ NO_COLOR: '' }, true)], [false, true])
  t.same(
    [wantsColors({ FORCE_COLOR: '1', NO_COLOR: '1' }, false), wantsColors({ FORCE_COLOR: '0' }, true)],
    [true, false]
  )
  t.equal(wantsColors({ TERM: 'dumb' }, true), false)
})
