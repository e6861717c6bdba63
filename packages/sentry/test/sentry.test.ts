import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import sentry, { type SentryOptions } from '../src/index.ts'

async function service(t: Test, options: SentryOptions = {}) {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, {
    dsn: ingest.dsn,
    service: { name: 'shop', version: '1.2.3', environment: 'test' },
    ...options
  })
  app.get('/orders/:id', async () => Promise.reject(new TypeError('boom')))
  app.get('/gone', async () => Promise.reject(Object.assign(new Error('gone'), { statusCode: 404 })))
  app.get('/500', async (_request, reply) => reply.code(500).send('no exception'))
  return { app, ingest }
}

test('sends an event for an exception that ended in a 5xx', async (t) => {
  const { app, ingest } = await service(t)
  t.equal((await app.inject('/orders/7')).statusCode, 500)
  await app.close()
  t.match(ingest.events, [
    {
      transaction: 'GET /orders/:id',
      environment: 'test',
      release: 'shop@1.2.3',
      tags: { request_id: 'req-1' },
      exception: { values: [{ type: 'TypeError', value: 'boom', mechanism: { handled: false } }] }
    }
  ])
  t.equal(ingest.events.length, 1)
})

test('sends none for a 4xx or for a 500 without an exception', async (t) => {
  const { app, ingest } = await service(t)
  for (const url of ['/gone', '/500', '/nowhere']) await app.inject(url)
  await app.close()
  t.same(ingest.events, [])
})

test('decides by the final status, not by what was thrown', async (t) => {
  const { app, ingest } = await service(t)
  app.register(async (scope: FastifyInstance) => {
    scope.setErrorHandler((_error, _request, reply) => reply.code(404).send())
    scope.get('/mapped', async () => Promise.reject(new Error('domain error')))
  })
  t.equal((await app.inject('/mapped')).statusCode, 404)
  await app.close()
  t.same(ingest.events, [])
})

test('sends neither body, cookies, headers nor query, nor secrets in messages, causes and breadcrumbs', async (t) => {
  const { app, ingest } = await service(t)
  app.post('/orders', async () => {
    console.debug('token=planted-console')
    throw new Error('password=planted-message', { cause: new Error('secret=planted-cause') })
  })
  await app.inject({
    method: 'POST',
    url: '/orders?token=planted-query',
    headers: { authorization: 'planted-header', cookie: 'session=planted-cookie' },
    payload: { password: 'planted-body' }
  })
  await app.close()
  t.equal(ingest.events.length, 1)
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('does nothing without a DSN', async (t) => {
  const app = Fastify()
  await app.register(sentry)
  t.equal(app.hasDecorator('observation'), false)
})

test('takes DSN, environment and release from the standard variables', async (t) => {
  const variables = { SENTRY_ENVIRONMENT: 'staging', SENTRY_RELEASE: 'r1' }
  Object.assign(process.env, variables)
  t.teardown(() => {
    for (const name of Object.keys(variables)) delete process.env[name]
  })
  const { app, ingest } = await service(t)
  await app.inject('/orders/7')
  await app.close()
  t.match(ingest.events, [{ environment: 'staging', release: 'r1' }])
})

test('shares one client among the apps of a process, until the last has closed', async (t) => {
  const { app, ingest } = await service(t)
  const other = Fastify()
  await other.register(sentry, { dsn: ingest.dsn })
  await other.close()
  await app.inject('/orders/7')
  await app.close()
  t.equal(ingest.events.length, 1)
})

test('closes in time when Sentry is not there', async (t) => {
  const { app } = await service(t, { dsn: 'http://key@127.0.0.1:1/1' })
  t.equal((await app.inject('/orders/7')).statusCode, 500)
  const started = performance.now()
  await app.close()
  t.ok(performance.now() - started < 4_000)
})

test('refuses a DSN that is none', async (t) => {
  const name = '@fastify-observability/sentry'
  for (const dsn of ['sentry.io', 'https://sentry.io/1', 'https://key@sentry.io/']) {
    const sentence = `${name}: option "dsn" must be a DSN like https://key@host/1, got '${dsn}'`
    await t.rejects(service(t, { dsn }), new TypeError(sentence))
  }
  process.env.SENTRY_DSN = 'nope'
  t.teardown(() => delete process.env.SENTRY_DSN)
  const sentence = `${name}: SENTRY_DSN must be a DSN like https://key@host/1, got 'nope'`
  await t.rejects(async () => Fastify().register(sentry), new TypeError(sentence))
})
