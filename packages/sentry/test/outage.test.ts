import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { registryOf } from '@fastify-observability/observation/internal'
import { type IngestAnswer, startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import sentry, { type SentryOptions } from '../src/index.ts'
import { closeSent } from './closing.ts'

const CRASHING = fileURLToPath(new URL('crashing.ts', import.meta.url))

async function service(t: Test, options: SentryOptions = {}, answer: IngestAnswer = { status: 200 }) {
  const ingest = await startIngest()
  ingest.answer = answer
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn, tracesSampleRate: 0, ...options })
  app.get('/boom/:place', async ({ params }) => Promise.reject(failures[(params as { place: string }).place]?.()))
  return { app, ingest }
}

// An error of its own place each, and one object for all.
const CONSTANT = new Error('constant')
const failures: Record<string, () => Error> = {
  one: () => new Error('one'),
  two: () => new Error('two'),
  constant: () => CONSTANT
}
for (let place = 0; place < 100; place++) {
  failures[place] = () => Object.assign(new Error('any'), { code: `E${place}` })
}

async function fail(app: FastifyInstance, places: (string | number)[]): Promise<void> {
  const answers = await Promise.all(places.map((place) => app.inject(`/boom/${place}`)))
  if (answers.some(({ statusCode }) => statusCode !== 500)) throw new Error('a request was answered otherwise')
}

function countsOf(app: FastifyInstance): Record<string, number> {
  const series = registryOf(app).published.filter(({ name }) => name.startsWith('sentry_'))
  return Object.fromEntries(
    series.flatMap(({ collect }) => Array.from(collect(), ([{ reason = 'sent' }, count]) => [reason, count]))
  )
}

async function millisecondsOf(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await task()
  return performance.now() - started
}

const many = (place: string, count: number): string[] => Array<string>(count).fill(place)

test('sends ten of a thousand equal errors and counts the others', async (t) => {
  const { app, ingest } = await service(t)
  await fail(app, many('one', 1000))
  await closeSent(app)
  t.equal(ingest.events.length, 10)
  t.same(countsOf(app), { sent: 10, fingerprint_limit: 990 })
})

test('sends sixty events of different errors in a minute', async (t) => {
  const { app, ingest } = await service(t)
  await fail(
    app,
    Array.from({ length: 100 }, (_, place) => place)
  )
  await closeSent(app)
  t.equal(ingest.events.length, 60)
  t.same(countsOf(app), { sent: 60, rate_limit: 40 })
})

test('has limits that can be set', async (t) => {
  const { app } = await service(t, { maxEventsPerMinute: 3, maxEqualEventsPerMinute: 2 })
  await fail(app, ['one', 'one', 'one', 'two', 'two'])
  await closeSent(app)
  t.same(countsOf(app), { sent: 3, fingerprint_limit: 1, rate_limit: 1 })
})

test('limits what the application captures itself too', async (t) => {
  const { app, ingest } = await service(t, { maxEqualEventsPerMinute: 2 })
  for (let index = 0; index < 5; index++) Sentry.captureException(new Error(`own ${index}`))
  for (let index = 0; index < 5; index++) Sentry.captureMessage('own')
  await closeSent(app)
  t.equal(ingest.events.length, 4)
  t.same(countsOf(app), { sent: 4, fingerprint_limit: 6 })
})

test('sends one error object for each request that it fails', async (t) => {
  const { app, ingest } = await service(t)
  for (let index = 0; index < 3; index++) await fail(app, ['constant'])
  await closeSent(app)
  t.equal(new Set(ingest.events.map(({ tags }) => tags?.request_id)).size, 3)
  t.same(countsOf(app), { sent: 3 })
})

test('does not send again what the application has captured itself', async (t) => {
  const { app, ingest } = await service(t)
  app.get('/captured', async () => {
    const error = new Error('captured')
    Sentry.captureException(error)
    throw error
  })
  await app.inject('/captured')
  await closeSent(app)
  t.equal(ingest.events.length, 1)
  t.same(countsOf(app), { sent: 1, already_captured: 1 })
})

test('counts what the options of the SDK drop', async (t) => {
  const { app } = await service(t, { sdk: { beforeSend: () => null } })
  await fail(app, ['one', 'two'])
  await closeSent(app)
  t.same(countsOf(app), { sent: 0, before_send: 2 })
})

test('counts events that Sentry refuses, and sends none until it may again', async (t) => {
  const limited = { status: 429, headers: { 'retry-after': '60' } }
  const { app, ingest } = await service(t, {}, limited)
  await fail(app, ['one'])
  await ingest.event(() => true)
  await Sentry.getClient()?.getTransport()?.flush(PATIENCE_MS)
  await fail(app, ['one', 'two'])
  await closeSent(app)
  t.equal(ingest.events.length, 1)
  t.same(countsOf(app), { sent: 0, http_429: 1, ratelimit_backoff: 2 })
})

test('counts events that are too large for Sentry', async (t) => {
  const { app } = await service(t, {}, { status: 413 })
  await fail(app, ['one', 'two'])
  await closeSent(app)
  t.same(countsOf(app), { sent: 0, http_413: 2 })
})

test('counts events that find nobody, and closes at once', async (t) => {
  const { app } = await service(t, { dsn: 'http://key@127.0.0.1:1/1' })
  await fail(app, ['one', 'two'])
  t.ok((await millisecondsOf(() => app.close())) < 1_000)
  t.same(countsOf(app), { sent: 0, network_error: 2 })
})

test('counts events whose connection breaks', async (t) => {
  const { app } = await service(t, {}, 'reset')
  await fail(app, ['one'])
  await closeSent(app)
  t.same(countsOf(app), { sent: 0, network_error: 1 })
})

test('holds 64 events for an ingest that hangs, answers requests meanwhile, and closes in two seconds', async (t) => {
  const { app } = await service(t, { maxEventsPerMinute: 1000 }, 'hang')
  const places = Array.from({ length: 100 }, (_, place) => place)
  t.ok((await millisecondsOf(() => fail(app, places))) < STARVED_MS)
  t.ok((await millisecondsOf(() => app.close())) < 2_000 + STARVED_MS)
  const { sent, queue_overflow: overflow = 0, network_error: failed = 0 } = countsOf(app)
  t.same([sent, overflow + failed], [0, 100])
  t.ok(failed <= 64)
})

test('lets a process end that crashes or closes while the ingest hangs', async (t) => {
  const ingest = await startIngest()
  ingest.answer = 'hang'
  t.teardown(() => ingest.close())
  const children = ['throw', 'fail, and close'].map((how) => spawn(process.execPath, [CRASHING, how, ingest.dsn]))
  const ends = await Promise.all(children.map((child) => once(child, 'exit')))
  t.same(
    ends.map(([code]) => code),
    [1, 0]
  )
  t.equal(ingest.events.length, 2)
})

test('sends the error that ends the process after all that the limit admits', async (t) => {
  const { app } = await service(t, { maxEventsPerMinute: 1 })
  Sentry.captureException(new Error('first'))
  Sentry.captureException(new TypeError('second'))
  Sentry.captureException(new RangeError('last'), { level: 'fatal' })
  await closeSent(app)
  t.same(countsOf(app), { sent: 2, rate_limit: 1 })
})

test('gives each delivery ten seconds', async (t) => {
  const { app, ingest } = await service(t, {}, 'hang')
  const expiry = new AbortController()
  t.intercept(AbortSignal, 'timeout', { value: (ms: number) => (ms === 10_000 ? expiry.signal : undefined) })
  await fail(app, ['one'])
  await ingest.item('event')
  expiry.abort()
  await registryOf(app).flush(PATIENCE_MS)
  t.same(countsOf(app), { sent: 0, network_error: 1 })
  await app.close()
})

test('limits equal errors whose code cannot be read', async (t) => {
  const { app } = await service(t, { maxEqualEventsPerMinute: 1 })
  const hides = {
    get(): never {
      throw CONSTANT
    }
  }
  for (const text of ['one', 'two']) Sentry.captureException(Object.defineProperty(new Error(text), 'code', hides))
  await closeSent(app)
  t.same(countsOf(app), { sent: 1, fingerprint_limit: 1 })
})
