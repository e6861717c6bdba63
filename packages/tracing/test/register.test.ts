import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { type Test, test } from 'tap'
import { ofScope, PRELOADED, REGISTER, serve, shapes, versionOf } from './served.ts'

const { TEST_DATABASE_URL, TEST_REDIS_URL } = process.env
const HAS_POSTGRES = Boolean(TEST_DATABASE_URL)
const NO_POSTGRES = !TEST_DATABASE_URL && 'TEST_DATABASE_URL names no PostgreSQL'
const NO_REDIS = !TEST_REDIS_URL && 'TEST_REDIS_URL names no Redis'
const KINDS = { ESM: 'service.mjs', CommonJS: 'service.cjs' }

const runs = new Map<string, ReturnType<typeof serve>>()

/** What a service does that is started the same way by several tests: it is started once. */
function serveOnce(t: Test, service: string, args: string[]): ReturnType<typeof serve> {
  const key = [service, ...args].join(' ')
  const run = runs.get(key) ?? serve(t, service, args)
  runs.set(key, run)
  return run
}

const OK = { kind: 'CLIENT', status: 'UNSET', statusMessage: '', happened: [] }

for (const [kind, service] of Object.entries(KINDS)) {
  test(`${kind}: the server span is the same with and without the preload, and the only one`, async (t) => {
    const all = [[], PRELOADED, ['--require', REGISTER]]
    const served = await Promise.all(all.map((args) => serveOnce(t, service, args)))
    for (const { spans } of served) {
      const servers = shapes(spans).filter(({ kind }) => kind === 'SERVER')
      t.equal(servers.length, 1)
      t.same(servers, [
        {
          ...OK,
          name: 'GET /orders/:id',
          kind: 'SERVER',
          parent: 'GET',
          attributes: {
            'http.request.method': 'GET',
            'http.route': '/orders/:id',
            'http.response.status_code': 200,
            'url.scheme': 'http',
            'url.path': '/orders/7',
            'server.address': '127.0.0.1',
            'client.address': '127.0.0.1',
            'network.peer.address': '127.0.0.1',
            'network.protocol.version': '1.1',
            'user_agent.original': 'node',
            'request.id': 'req-1'
          }
        }
      ])
    }
    t.same(
      served.map(({ spans }) => spans.some(({ scope }) => scope.endsWith('-pg'))),
      [false, HAS_POSTGRES, HAS_POSTGRES]
    )
  })

  test(`${kind}: a pg query is a child of the request, without values`, { skip: NO_POSTGRES }, async (t) => {
    const { spans } = await serveOnce(t, service, PRELOADED)
    const server = { 'db.system.name': 'postgresql', 'db.namespace': 'postgres', 'server.address': '127.0.0.1' }
    const connect = { 'db.postgresql.idle.timeout.millis': 10_000, ...server }
    const parent = 'GET /orders/:id'
    const pooled = { ...OK, name: 'pg-pool.connect', parent, attributes: connect }
    const query = { ...OK, name: 'pg.query:SELECT postgres', parent }
    t.same(ofScope(spans, '-pg'), [
      pooled,
      { ...query, attributes: { ...server, 'db.query.text': 'SELECT $1::text, ? WHERE ? IN (?)' } },
      pooled,
      {
        ...query,
        status: 'ERROR',
        attributes: { ...server, 'db.query.text': 'SELECT ?::int' },
        happened: [{ 'exception.message': "PostgreSQL error of type 'error' occurred (code: 22P02)" }]
      }
    ])
    t.notMatch(JSON.stringify(spans), /secret|4711471147114711/)
  })

  test(`${kind}: Redis commands are children of the span that sends them, without values`, {
    skip: NO_REDIS
  }, async (t) => {
    const { spans } = await serveOnce(t, service, PRELOADED)
    function command(name: string, operation: string) {
      const said = { 'db.operation.name': operation, 'db.query.text': `${operation} ?` }
      const attributes = { 'db.system.name': 'redis', 'server.address': '127.0.0.1', ...said }
      return { ...OK, name, parent: 'cache', attributes }
    }
    t.same(ofScope(spans, '-ioredis'), [command('set', 'set')])
    t.same(ofScope(spans, '-redis'), [
      command('redis-GET', 'GET'),
      { ...command('redis-NONSENSE', 'NONSENSE'), status: 'ERROR', happened: [{ 'exception.type': 'Error' }] }
    ])
    t.notMatch(JSON.stringify(spans), /secret/)
  })
}

test('says at start-up what is instrumented', async (t) => {
  const { said } = await serveOnce(t, 'service.mjs', PRELOADED)
  const [pg, ioredis, redis, api] = ['pg', 'ioredis', 'redis', '@opentelemetry/api'].map(versionOf)
  t.equal(
    said[1],
    `30 tracing: instrumented: http, undici, pg ${pg}, ioredis ${ioredis}, redis ${redis}; one copy of @opentelemetry/api: ${api}`
  )
  t.equal(said.length, 2)
})

for (const service of Object.values(KINDS)) {
  test(`${service} says at start-up what is seen by its channels, and what only the preload instruments`, async (t) => {
    const { said } = await serveOnce(t, service, [])
    const [ioredis, redis, api] = ['ioredis', 'redis', '@opentelemetry/api'].map(versionOf)
    const seen = `seen by their diagnostics channels: ioredis ${ioredis}, redis ${redis}`
    const only = 'only with `node --import fastify-observability/register`: pg'
    t.equal(said[1], `30 tracing: instrumented: http, undici; ${seen}; ${only}; one copy of @opentelemetry/api: ${api}`)
  })
}

test('warns of two copies of @opentelemetry/api, naming both with their paths', async (t) => {
  const own = join(dirname(createRequire(import.meta.url).resolve('@opentelemetry/api')), '..')
  const copy = join(t.testdir(), 'node_modules/@opentelemetry/api')
  cpSync(own, copy, { recursive: true })
  writeFileSync(join(copy, 'package.json'), JSON.stringify({ version: '1.4.1', main: 'dist/index.cjs' }))
  const { said } = await serve(t, 'service.mjs', PRELOADED, { ALSO_LOADS: copy })
  const { version } = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8'))
  t.match(said[1], `; copies of @opentelemetry/api: 1.4.1, ${version}`)
  t.match(said[2], '40 tracing: 2 copies of @opentelemetry/api are installed: ')
  for (const named of [`1.4.1 in ${copy}`, `${version} in ${own}`, 'npm ls @opentelemetry/api']) t.match(said[2], named)
})
