import { once } from 'node:events'
import mysql from 'mysql2'
import { type Test, test } from 'tap'
import { PRELOADED, serve, shapes } from './served.ts'
import { spansOf, traced } from './traced.ts'

const { TEST_MYSQL_URL = '' } = process.env
const NO_MYSQL = !TEST_MYSQL_URL && 'TEST_MYSQL_URL names no MariaDB or MySQL'

function poolOf(t: Test, connectionLimit = 2) {
  const pool = mysql.createPool({ uri: TEST_MYSQL_URL, connectionLimit })
  t.teardown(() => pool.promise().end())
  return pool
}

test('mysql2: a query is a child of the request, without values, however it is asked for', {
  skip: NO_MYSQL
}, async (t) => {
  const pool = poolOf(t)
  const single = mysql.createConnection(TEST_MYSQL_URL)
  t.teardown(() => single.promise().end())
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async () => {
      await pool.promise().query('SELECT ?, "secret"', ['secret'])
      await pool.promise().execute('SELECT ?', ['secret'])
      await new Promise((resolve) => pool.query("SELECT 'secret'", resolve))
      await once(single.query('DO 4711'), 'end')
      await pool
        .promise()
        .query("SELEC 'secret'")
        .catch(() => undefined)
      return 'asked'
    })
  })
  await app.inject('/')
  const spans = shapes(await spansOf(app, collector)).filter(({ kind }) => kind === 'CLIENT')
  const { hostname, pathname } = new URL(TEST_MYSQL_URL)
  function query(name: string, text: string) {
    const said = { 'db.system.name': 'mysql', 'db.namespace': pathname.slice(1), 'db.query.text': text }
    const attributes = { ...said, 'server.address': hostname }
    return { name, kind: 'CLIENT', parent: 'GET /', status: 'UNSET', statusMessage: '', attributes, happened: [] }
  }
  t.same(spans, [
    query('SELECT', 'SELECT ?, ?'),
    query('SELECT', 'SELECT ?'),
    query('SELECT', 'SELECT ?'),
    query('DO', 'DO ?'),
    { ...query('SELEC', 'SELEC ?'), status: 'ERROR', happened: [{ 'exception.type': 'ER_PARSE_ERROR' }] }
  ])
})

test('mysql2: a query that waits for a connection belongs to its own request', { skip: NO_MYSQL }, async (t) => {
  const pool = poolOf(t, 1)
  const { app, collector } = await traced(t, (app) => {
    app.get('/:name', async ({ url }) => {
      await new Promise((resolve) => pool.query(`DO SLEEP(0.05), '${url}'`, resolve))
      await pool.promise().query('DO 1')
      return 'asked'
    })
  })
  await Promise.all(['/one', '/two', '/three'].map((url) => app.inject(url)))
  const spans = await spansOf(app, collector)
  const servers = spans.filter(({ kind }) => kind === 'SERVER')
  t.equal(servers.length, 3)
  for (const { spanId } of servers) t.equal(spans.filter(({ parentSpanId }) => parentSpanId === spanId).length, 2)
})

test('mysql2: a query outside of requests has no span', { skip: NO_MYSQL }, async (t) => {
  const { app, collector } = await traced(t)
  await poolOf(t).promise().query('DO 1')
  t.same(await spansOf(app, collector), [])
})

test('mysql2: a query has one span beside an instrumentation of its client', { skip: NO_MYSQL }, async (t) => {
  const env = { TRACE_INSTRUMENTATIONS: '@opentelemetry/instrumentation-mysql2' }
  const [bare, preloaded] = await Promise.all([serve(t, 'mysql.mjs', []), serve(t, 'mysql.mjs', PRELOADED, env)])
  t.match(bare.said[1], 'seen by their diagnostics channels: mysql2 3.')
  t.match(preloaded.said[1], ', mysql2 3.')
  const [own, upstream] = [bare, preloaded].map(({ spans }) => shapes(spans).filter(({ kind }) => kind === 'CLIENT'))
  t.equal(own?.length, 2)
  t.same(own, upstream)
})
