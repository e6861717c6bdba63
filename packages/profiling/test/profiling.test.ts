import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { observe } from '@fastify-observability/observation'
import { registryOf } from '@fastify-observability/observation/internal'
import { withEnv } from '@fastify-observability/testing/environment'
import { type ProfileSample, startPyroscope } from '@fastify-observability/testing/pyroscope'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import profiling, { type ProfilingOptions } from '../src/index.ts'
import { compute } from './computing.ts'

const SERVICE = { name: 'orders', version: '1.4.0', environment: 'test' }

/** A service that computes, profiled into a Pyroscope, with the warnings that it logs and the counters that it publishes. */
async function profiled(t: Test, options: ProfilingOptions = {}) {
  const pyroscope = await startPyroscope()
  t.teardown(() => pyroscope.close())
  const warnings: string[] = []
  const stream = { write: (line: string) => void warnings.push(JSON.parse(line).msg) }
  const app = Fastify({ logger: { level: 'warn', stream }, forceCloseConnections: true })
  const given = { service: SERVICE, serverAddress: pyroscope.url, samplingIntervalMs: 1, ...options }
  await app.register(profiling, given)
  app.get('/orders/:id', async function answerOrder() {
    await turn()
    return compute(60)
  })
  app.get('/reports', async function answerReport() {
    await turn()
    return compute(60)
  })
  t.teardown(() => app.close())
  const counted = () => {
    const series = registryOf(app).published.filter(({ name }) => name.startsWith('profiles_'))
    return Object.fromEntries(series.map(({ name, collect }) => [name, [...collect()]]))
  }
  return { app, pyroscope, warnings, counted }
}

/** The routes of the samples in which a function ran. */
function routesOf(samples: ProfileSample[] = [], name: string): Set<string | undefined> {
  const own = samples.filter(({ functions }) => functions.includes(name))
  return new Set(own.map(({ labels }) => labels.http_route))
}

// First: V8 may know no names of functions that it had optimised before the profiler was started again.
test('tells the samples of requests that run at the same time apart', async (t) => {
  const { app, pyroscope } = await profiled(t)
  await Promise.all(['/orders/7', '/reports', '/orders/8', '/reports'].map((url) => app.inject(url)))
  await app.close()
  const samples = pyroscope.profiles[0]?.samples
  t.same(routesOf(samples, 'answerOrder'), new Set(['/orders/:id']))
  t.same(routesOf(samples, 'answerReport'), new Set(['/reports']))
})

test('pushes what was sampled, under the name of the service', async (t) => {
  const { app, pyroscope } = await profiled(t)
  await app.inject('/orders/7')
  await app.close()
  const [profile] = pyroscope.profiles
  t.match(profile?.query, {
    format: 'pprof',
    spyName: 'nodespy',
    sampleRate: '1000',
    from: /^\d{10}$/,
    until: /^\d{10}$/
  })
  t.equal(profile?.query.name, 'orders{deployment_environment_name=test,service_version=1.4.0}')
  t.same(profile?.types, ['samples:count', 'wall:nanoseconds', 'cpu:nanoseconds'])
  const sample = profile?.samples.find(({ labels }) => labels.http_route !== undefined)
  t.same(sample?.labels, { http_route: '/orders/:id', span_name: 'GET /orders/:id' })
})

test('writes no labels where asked not to', async (t) => {
  const { app, pyroscope, warnings } = await profiled(t, { labels: false })
  await app.inject('/orders/7')
  await app.close()
  const { samples = [] } = pyroscope.profiles[0] ?? {}
  t.ok(samples.length > 0)
  t.ok(samples.every(({ labels }) => labels.http_route === undefined))
  t.same(warnings, [])
})

test('writes the name of a job on its samples', async (t) => {
  const { app, pyroscope } = await profiled(t)
  await app.ready()
  await observe('import-orders', async () => {
    await turn()
    compute(60)
  })
  await app.close()
  const own = pyroscope.profiles[0]?.samples.filter(({ labels }) => labels.job !== undefined)
  t.match(own?.[0]?.labels, { job: 'import-orders', span_name: 'import-orders' })
})

test('pushes again and again, and counts what Pyroscope has accepted', async (t) => {
  const { pyroscope, app, counted } = await profiled(t, { pushIntervalMs: 50 })
  await pyroscope.received(3)
  await app.close()
  t.same(counted(), { profiles_pushed_total: [[{}, pyroscope.profiles.length]], profiles_dropped_total: [] })
})

test('profiles the heap where asked to', async (t) => {
  const { app, pyroscope } = await profiled(t, { heap: true })
  await app.close()
  const types = pyroscope.profiles.map(({ types }) => types)
  t.same(types[1], ['inuse_objects:count', 'inuse_space:bytes'])
})

test('sends who it is by the variables that the clients of Pyroscope read, and headers of its own', async (t) => {
  withEnv(t, { PYROSCOPE_BASIC_AUTH_USER: 'me', PYROSCOPE_BASIC_AUTH_PASSWORD: 'secret', PYROSCOPE_TENANT_ID: 'shop' })
  const { app, pyroscope } = await profiled(t, { headers: { 'x-from': 'here' } })
  await app.close()
  const authorization = `Basic ${Buffer.from('me:secret').toString('base64')}`
  t.match(pyroscope.profiles[0]?.headers, { authorization, 'x-scope-orgid': 'shop', 'x-from': 'here' })
})

test('takes the address and the token from the environment', async (t) => {
  const pyroscope = await startPyroscope()
  t.teardown(() => pyroscope.close())
  withEnv(t, { PYROSCOPE_SERVER_ADDRESS: `${pyroscope.url}/`, PYROSCOPE_AUTH_TOKEN: 'secret' })
  const app = Fastify()
  await app.register(profiling)
  await app.close()
  t.match(pyroscope.profiles[0]?.headers, { authorization: 'Bearer secret' })
})

test('takes user and password from the address', async (t) => {
  const pyroscope = await startPyroscope()
  t.teardown(() => pyroscope.close())
  const app = Fastify()
  await app.register(profiling, { serverAddress: pyroscope.url.replace('//', '//me:s%40cret@') })
  await app.close()
  const authorization = `Basic ${Buffer.from('me:s@cret').toString('base64')}`
  t.match(pyroscope.profiles[0]?.headers, { authorization })
})

test('counts what Pyroscope refuses, and says so once', async (t) => {
  const { app, pyroscope, warnings, counted } = await profiled(t, { pushIntervalMs: 50 })
  pyroscope.answer = 503
  await pyroscope.received(2)
  await app.close()
  const { length } = pyroscope.profiles
  t.same(counted(), { profiles_pushed_total: [[{}, 0]], profiles_dropped_total: [[{ reason: 'http_503' }, length]] })
  const sentence = 'a profile was dropped: http_503; profiles_dropped_total counts them'
  t.same(warnings, [`@fastify-observability/profiling: ${sentence}`])
})

test('closes in time while Pyroscope hangs, and counts both profiles', async (t) => {
  const { app, pyroscope, counted } = await profiled(t)
  pyroscope.answer = 'hang'
  await app.close()
  t.equal(pyroscope.profiles.length, 1)
  await turn()
  t.match(counted(), { profiles_dropped_total: [[{ reason: /timeout|shutdown/ }, 1]] })
})

test('answers while nobody listens where Pyroscope should be', async (t) => {
  const { app, pyroscope, counted } = await profiled(t)
  await pyroscope.close()
  t.equal((await app.inject('/orders/7')).statusCode, 200)
  await app.close()
  t.same(counted().profiles_dropped_total, [[{ reason: 'network_error' }, 1]])
})

test('runs jobs that begin when the last profile has been taken', async (t) => {
  const ran: string[] = []
  const pyroscope = await startPyroscope()
  t.teardown(() => pyroscope.close())
  const app = Fastify({ logger: { level: 'error', stream: { write: (line) => void ran.push(line) } } })
  // Called after that of the plugin.
  app.addHook('onClose', () => observe('tidy-up', () => void ran.push('tidied up')))
  await app.register(profiling, { serverAddress: pyroscope.url })
  await app.close()
  t.same(ran, ['tidied up'])
})

test('says in one sentence that it does not know where Pyroscope is', async (t) => {
  t.plan(1)
  const stream = { write: (line: string) => t.match(line, /no profiles: PYROSCOPE_SERVER_ADDRESS, or the option/) }
  const app = Fastify({ logger: { level: 'warn', stream } })
  await app.register(profiling)
  await app.close()
})

test('profiles a process once', async (t) => {
  await profiled(t)
  const { warnings, app, pyroscope } = await profiled(t)
  t.equal((await app.inject('/orders/7')).statusCode, 200)
  await app.close()
  t.match(warnings, [/already started in this process/])
  t.equal(pyroscope.profiles.length, 0)
})

for (const [options, sentence] of [
  [{ serverAddress: 'pyroscope:4040' }, /"serverAddress" must be an http or https URL/],
  [{ serverAddress: 'http://me:%zz@pyroscope:4040' }, /"serverAddress" must be an http or https URL/],
  [{ samplingIntervalMs: 0 }, /"samplingIntervalMs" must be a number of milliseconds from 1 to 1000, got 0/],
  [{ pushIntervalMs: -1 }, /"pushIntervalMs" must be a number of milliseconds/]
] as const) {
  test(`refuses ${JSON.stringify(options)}`, async (t) => {
    await t.rejects(async () => Fastify().register(profiling, options), { message: sentence })
  })
}

test('profiles without labels where Node has no AsyncContextFrame, says so, and the process ends', async (t) => {
  const pyroscope = await startPyroscope()
  t.teardown(() => pyroscope.close())
  const service = join(import.meta.dirname, 'computing.ts')
  const env = { ...process.env, PYROSCOPE_SERVER_ADDRESS: pyroscope.url }
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-async-context-frame', service], { env })
  t.match(stdout, /samples have neither route nor span/)
  const { samples = [] } = pyroscope.profiles[0] ?? {}
  t.ok(samples.length > 0)
  t.same(
    samples.filter(({ labels }) => labels.http_route !== undefined),
    []
  )
})
