import { STARVED_MS } from '@fastify-observability/testing/starvation'
import fc from 'fast-check'
import { test } from 'tap'
import { withoutValues } from '../src/processing/statement.ts'

function shapes(title: string, cases: Record<string, string>): void {
  test(title, (t) => {
    for (const [statement, shape] of Object.entries(cases)) t.equal(withoutValues(statement), shape, statement)
    t.end()
  })
}

shapes('puts ? in the place of strings and numbers', {
  "SELECT * FROM users WHERE email = 'ada@example.com'": 'SELECT * FROM users WHERE email = ?',
  "INSERT INTO t VALUES (1, -2.5, .5, 1e-10, 0xFF, 1_000, 'a''b', '')":
    'INSERT INTO t VALUES (?, -?, ?, ?-?, ?, ?, ?, ?)',
  "SELECT E'it\\'s', e'\\\\', B'0101', x'1F', N'n', U&'d\\0061t' FROM t": 'SELECT ?, ?, ?, ?, ?, U&? FROM t',
  'SELECT $$a secret$$, $tag$a $$ b$tag$, $é$x$é$ FROM t': 'SELECT ?, ?, ? FROM t',
  "SELECT data->>'key', DATE '2026-01-01', 'x'::text LIMIT 10": 'SELECT data->>?, DATE ?, ?::text LIMIT ?'
})

shapes('keeps names, placeholders and keywords', {
  'SELECT t1.a2, "Weird ""1"" name", `b 3` FROM t$1$x': 'SELECT t1.a2, "Weird ""1"" name", `b 3` FROM t$1$x',
  'UPDATE t SET a = $1, b = $12::int4 WHERE c IS NOT NULL AND d = ? AND e = :name':
    'UPDATE t SET a = $1, b = $12::int4 WHERE c IS NOT NULL AND d = ? AND e = :name',
  BEGIN: 'BEGIN',
  '': ''
})

shapes('takes comments out and puts everything on one line', {
  "SELECT 1 -- it's 5\n  FROM t": 'SELECT ? FROM t',
  "/* user='ada' /* nested */ 7 */ SELECT\n\ta FROM t /*traceparent='00-1'*/": 'SELECT a FROM t',
  'SELECT a /* never closed': 'SELECT a'
})

shapes('writes a list of values as one, however long it is', {
  "SELECT a FROM t WHERE b IN (1, 2, 3) AND c in ('x','y')": 'SELECT a FROM t WHERE b IN (?) AND c in (?)',
  'SELECT a FROM t WHERE b IN ($1, $2)': 'SELECT a FROM t WHERE b IN ($1, $2)'
})

shapes('leaves out the rest where the end of a value is missing or depends on a setting', {
  "SELECT 'secret": 'SELECT ?…',
  'SELECT $a$secret$b$': 'SELECT ?…',
  "SELECT 'a\\' OR b = 'secret' --'": 'SELECT ?…',
  'SELECT "secret': 'SELECT ?…'
})

test('looks at the first 4,096 characters only', (t) => {
  const shape = withoutValues(`SELECT ${'column, '.repeat(10_000)}'secret'`)
  t.match(shape, /^SELECT column, .*…$/)
  t.ok(shape.length <= 4_097)
  t.end()
})

test('never throws, and never shows what was in a string', (t) => {
  const piece = fc.constantFrom("'", '"', '$$', '$a$', '\\', '/*', '*/', '--', '\n', ' ', 'E', 'in (', ',', ')', '$1')
  const anything = fc.array(fc.oneof(piece, fc.string({ unit: 'binary' })), { maxLength: 50 })
  t.doesNotThrow(() => fc.assert(fc.property(anything, (pieces) => typeof withoutValues(pieces.join('')) === 'string')))
  const hides = fc.property(fc.string(), fc.nat(), (text, number) => {
    const quoted = text.replaceAll("'", "''").replaceAll('\\', '/')
    return withoutValues(`SELECT '${quoted}', ${number}, E'${quoted}'`) === 'SELECT ?, ?, ?'
  })
  t.doesNotThrow(() => fc.assert(hides))
  t.end()
})

test('takes time linear in the length, whatever is in it', (t) => {
  for (const piece of ["'", "''", '/*', '$a$', '$', '--', ' ', '(?,', "\\'", 'in (?,', '"', '1e', 'a$']) {
    const start = performance.now()
    withoutValues(piece.repeat(1_000_000))
    t.ok(performance.now() - start < STARVED_MS, JSON.stringify(piece))
  }
  t.end()
})
