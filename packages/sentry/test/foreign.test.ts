import { registryOf } from '@fastify-observability/observation/internal'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import sentry from '../src/index.ts'
import { closeSent } from './closing.ts'

async function service(t: Test, options: Sentry.NodeOptions = {}) {
  const ingest = await startIngest()
  const integrations: Sentry.NodeOptions['integrations'] = (defaults) =>
    defaults.filter(({ name }) => name !== 'Fastify')
  const client = Sentry.init({ dsn: ingest.dsn, environment: 'mine', integrations, ...options })
  t.teardown(async () => {
    await Sentry.close(1000)
    await ingest.close()
  })
  const app = Fastify()
  await app.register(sentry, { dsn: 'http://key@127.0.0.1:1/1', tracesSampleRate: 1 })
  app.get('/:secret', async () => Promise.reject(new Error('password=planted')))
  return { app, client, ingest }
}

function countsOf(app: FastifyInstance): unknown[] {
  const series = registryOf(app).published.filter(({ name }) => name.startsWith('sentry_'))
  return series.flatMap(({ collect }) => Array.from(collect(), ([{ reason = 'sent' }, count]) => [reason, count]))
}

test('uses the client that the user has made, with its options, and leaves it open', async (t) => {
  const { app, client, ingest } = await service(t)
  await app.inject('/1')
  await app.close()
  t.equal(Sentry.getClient(), client)
  t.equal(client?.getOptions().enabled, undefined)
  await Sentry.flush(PATIENCE_MS)
  t.match(ingest.events, [{ environment: 'mine', transaction: 'GET /:secret', tags: { request_id: 'req-1' } }])
  t.equal(ingest.events.length, 1)
})

test('scrubs the events that it captures there', async (t) => {
  const { app, ingest } = await service(t)
  await app.inject('/1')
  Sentry.captureException(new Error('password=my own'))
  await Sentry.flush(PATIENCE_MS)
  const values = ingest.events.map(({ exception }) => exception?.values[0]?.value)
  t.same(values.sort(), ['password=[redacted]', 'password=my own'])
  await app.close()
})

test('counts what the client sends, and what it drops', async (t) => {
  const { app, ingest } = await service(t)
  for (let index = 0; index < 3; index++) await app.inject('/1')
  await Sentry.flush(PATIENCE_MS)
  // The SDK's own de-duplication.
  t.equal(ingest.events.length, 1)
  t.same(countsOf(app), [
    ['sent', 1],
    ['event_processor', 2]
  ])
  await app.close()
})

test('sends nothing twice where the Fastify integration of the SDK is left in', async (t) => {
  const { app, ingest } = await service(t, { integrations: (defaults) => defaults })
  await app.listen({ port: 0 })
  await (await fetch(`${app.listeningOrigin}/1`)).text()
  await Sentry.flush(PATIENCE_MS)
  t.equal(ingest.events.length, 1)
  await app.close()
})

test('makes a client of its own when that of the user is closed', async (t) => {
  await Sentry.close(1000)
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn, tracesSampleRate: 0 })
  app.get('/', async () => Promise.reject(new Error('boom')))
  await app.inject('/')
  await closeSent(app)
  t.equal(ingest.events.length, 1)
})

test('keeps requests apart where a client keeps its scopes in the context of OpenTelemetry', async (t) => {
  const { app, client, ingest } = await service(t, { enableOpenTelemetrySetup: true })
  t.not(client?.asyncLocalStorageLookup?.contextSymbol, undefined)
  const both = Promise.withResolvers<void>()
  app.get<{ Params: { id: string } }>('/told/:id', async ({ params: { id } }) => {
    Sentry.setTag('asked', id)
    if (id === 'b') both.resolve()
    await both.promise
    throw new Error(id)
  })
  await Promise.all(['/told/a', '/told/b'].map((url) => app.inject(url)))
  await Sentry.flush(PATIENCE_MS)
  const told = ingest.events.map(({ exception, tags }) => `${exception?.values[0]?.value} ${tags?.asked}`)
  t.same(told.sort(), ['a a', 'b b'])
  await app.close()
})
