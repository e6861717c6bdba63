import { setTimeout as wait } from 'node:timers/promises'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { Pool } from 'pg'
import { createClient } from 'redis'
import { type Test, test } from 'tap'
import health, { type Check, postgres, redis } from '../src/index.ts'
import { NO_POSTGRES, NO_REDIS, type Server, startPostgres, startRedis } from './servers.ts'

const PROBE_MS = 100
// A result may be this old and a run take this long: together the longest that a hang stays unseen.
const LIMITS = { cacheMs: 300, timeoutMs: 500 }
const NOTICED_MS = 1_100 + STARVED_MS

const rejections: unknown[] = []
process.on('unhandledRejection', (reason) => rejections.push(reason))

interface Probes {
  app: FastifyInstance
  /** Resolves with the milliseconds until readiness answers so. */
  until(statusCode: number): Promise<number>
  /** Answers of liveness that were not 200. */
  dead: number[]
}

/** A service whose probes are asked every 100 ms. */
async function probed(t: Test, check: Check): Promise<Probes> {
  const app = Fastify()
  await app.register(health, { checks: { dependency: { check, ...LIMITS } } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const origin = app.listeningOrigin
  const dead: number[] = []
  let readiness = 0
  const timer = setInterval(async () => {
    const [alive, ready] = await Promise.all([fetch(`${origin}/health`), fetch(`${origin}/health/ready`)])
    if (alive.status !== 200) dead.push(alive.status)
    readiness = ready.status
    await Promise.all([alive.text(), ready.text()])
  }, PROBE_MS)
  t.teardown(async () => {
    clearInterval(timer)
    await wait(LIMITS.timeoutMs + PROBE_MS)
    await app.close()
  })
  async function until(statusCode: number): Promise<number> {
    const startedAt = performance.now()
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (readiness !== statusCode) {
      deadline.throwIfAborted()
      await wait(5)
    }
    return performance.now() - startedAt
  }
  return { app, until, dead }
}

async function outages(t: Test, server: Server, { until, dead }: Probes): Promise<void> {
  await until(200)
  await server.signal('SIGKILL')
  const killedMs = await until(503)
  await server.start()
  await until(200)
  await server.signal('SIGSTOP')
  const stoppedMs = await until(503)
  await server.signal('SIGCONT')
  await until(200)
  t.ok(killedMs < NOTICED_MS, `killed: not ready after ${Math.round(killedMs)} ms`)
  t.ok(stoppedMs < NOTICED_MS, `stopped: not ready after ${Math.round(stoppedMs)} ms`)
  t.same([dead, rejections], [[], []])
}

test('notices that a real PostgreSQL stops, hangs and recovers', { skip: NO_POSTGRES }, async (t) => {
  const server = await startPostgres()
  const pool = new Pool({ connectionString: `postgresql://postgres@127.0.0.1:${server.port}/postgres`, max: 2 })
  const probes = await probed(t, postgres(pool))
  t.teardown(async () => {
    await pool.end()
    await server.close()
  })
  await outages(t, server, probes)
  t.match(probes.app.health.state.checks.dependency, { state: 'ok', details: { utilization: /^\d\/2$/, waiting: 0 } })
  t.match([pool.totalCount <= 2, pool.waitingCount], [true, 0], 'and holds on to no connection')
})

test('serves two apps with one check of a pool at once', { skip: NO_POSTGRES }, async (t) => {
  const server = await startPostgres()
  const pool = new Pool({ connectionString: `postgresql://postgres@127.0.0.1:${server.port}/postgres`, max: 2 })
  t.teardown(async () => {
    await pool.end()
    await server.close()
  })
  const database = { check: postgres(pool), cacheMs: 0, timeoutMs: STARVED_MS }
  const apps = [Fastify(), Fastify()]
  for (const app of apps) await app.register(health, { checks: { database } })
  const probe = () => Promise.all(apps.map(async (app) => (await app.inject('/health/ready')).statusCode))
  while ((await probe())[0] !== 200) await wait(20)
  for (let round = 0; round < 5; round++) t.same(await probe(), [200, 200])
  t.equal(pool.waitingCount, 0)
})

test('notices that a real Redis stops, hangs and recovers', { skip: NO_REDIS }, async (t) => {
  const server = await startRedis()
  const client = createClient({ url: `redis://127.0.0.1:${server.port}` })
  await client.connect()
  const probes = await probed(t, redis(client))
  t.teardown(async () => {
    client.destroy()
    await server.close()
  })
  await outages(t, server, probes)
})

test('waits for a connection of an exhausted pool once, however often it runs', {
  skip: NO_POSTGRES
}, async (t) => {
  const server = await startPostgres()
  const pool = new Pool({ connectionString: `postgresql://postgres@127.0.0.1:${server.port}/postgres`, max: 1 })
  t.teardown(async () => {
    await pool.end()
    await server.close()
  })
  const app = Fastify()
  await app.register(health, { checks: { database: { check: postgres(pool), timeoutMs: 300, cacheMs: 0 } } })
  while ((await app.inject('/health/ready')).statusCode !== 200) await wait(20)
  const taken = await pool.connect()
  for (let probe = 0; probe < 3; probe++) t.equal((await app.inject('/health/ready')).statusCode, 503)
  t.equal(pool.waitingCount, 1)
  t.match(app.health.state.checks.database, { error: 'no answer within 300 ms' })
  taken.release()
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  while ((await app.inject('/health/ready')).statusCode !== 200) deadline.throwIfAborted()
  t.same([pool.idleCount, pool.waitingCount], [1, 0])
})
