import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions, observe } from '../src/index.ts'
import { start, startReceivers } from './process.ts'

const { TEST_DATABASE_URL, TEST_REDIS_URL = '' } = process.env
const NO_REDIS = !TEST_REDIS_URL && 'TEST_REDIS_URL names no Redis'
const NO_DATABASES = NO_REDIS || (!TEST_DATABASE_URL && 'TEST_DATABASE_URL names no PostgreSQL')

/** An app that asks Redis five times for each request, and its canonical lines. */
async function counting(t: Test, tracing: ObservabilityOptions['tracing'] = {}) {
  const io = new Redis(TEST_REDIS_URL)
  const redis = createClient({ url: TEST_REDIS_URL })
  await Promise.all([io.ping(), redis.connect()])
  const texts: string[] = []
  const app = Fastify()
  await app.register(observability, { tracing, logging: { stream: { write: (line) => void texts.push(line) } } })
  const ask = async () => [
    await io.get('key'),
    await redis.get('key'),
    await redis.multi().get('key').ping().ping().exec()
  ]
  app.get('/', ask)
  app.get('/none', async () => 'ok')
  app.get('/untraced', { config: { observability: { trace: false } } }, ask)
  t.teardown(() => Promise.all([app.close(), io.quit(), redis.close()]))
  const lines = () => texts.map((text) => JSON.parse(text)).filter(({ duration_ms }) => duration_ms !== undefined)
  return { app, io, ask, lines }
}

for (const [what, options] of Object.entries({ 'every trace is': {}, 'no trace is': { sampleRatio: 0 } })) {
  test(`the canonical line counts the calls of databases and their time, where ${what} sampled`, {
    skip: NO_REDIS
  }, async (t) => {
    const { app, lines } = await counting(t, options)
    await app.inject('/')
    const [{ db_calls, db_ms, duration_ms }] = lines()
    t.equal(db_calls, 5)
    t.ok(db_ms > 0 && db_ms <= duration_ms, `${db_ms} of ${duration_ms}`)
  })
}

test('a line without calls, of a route that is not traced or without tracing, has no count', {
  skip: NO_REDIS
}, async (t) => {
  const { app, lines } = await counting(t)
  for (const path of ['/none', '/untraced']) await app.inject(path)
  const untraced = await counting(t, false)
  await app.close()
  await untraced.app.inject('/')
  for (const line of [...lines(), ...untraced.lines()]) t.notOk('db_calls' in line || 'db_ms' in line)
  t.equal(lines().length, 2)
})

test('calls that end together are each counted with their own time, for the request that makes them', {
  skip: NO_REDIS
}, async (t) => {
  const { app, lines } = await counting(t)
  await Promise.all(Array.from({ length: 20 }, () => app.inject('/')))
  t.same(
    lines().map(({ db_calls }) => db_calls),
    Array(20).fill(5)
  )
})

test("the line of a job counts the job's calls", { skip: NO_REDIS }, async (t) => {
  const { lines, ask } = await counting(t)
  await observe('import-orders', ask)
  const [{ msg, db_calls, db_ms }] = lines()
  t.same([msg, db_calls], ['job completed', 5])
  t.ok(db_ms > 0)
})

test('no field that is added takes the place of the counts', { skip: NO_REDIS }, async (t) => {
  const { app, lines, ask } = await counting(t)
  app.get('/added', async ({ observation }) => {
    observation.add({ db_calls: 1_000, db_ms: 'long' })
    return ask()
  })
  await app.inject('/added')
  t.equal(lines()[0].db_calls, 5)
  t.type(lines()[0].db_ms, 'number')
})

for (const ratio of ['1', '0']) {
  test(`with the preload, calls of pg and Redis are counted at the ratio ${ratio}`, {
    skip: NO_DATABASES
  }, async (t) => {
    const { env } = await startReceivers(t)
    const preloaded = [process.execPath, '--import', import.meta.resolve('fastify-observability/register')]
    const sampling = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: ratio }
    const service = await start(t, { ...env, ...sampling }, 'database-service.mjs', preloaded)
    await fetch(`${service.origin}/orders`)
    const { db_calls, db_ms } = await service.line('request completed')
    t.equal(db_calls, 4)
    t.ok(Number(db_ms) >= 30)
  })
}
