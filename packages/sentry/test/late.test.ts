import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

test('uses a client that the user makes after the registration', async (t) => {
  const ingest = await startIngest()
  const listeners = process.listenerCount('uncaughtException')
  const app = Fastify()
  await app.register(sentry, { dsn: 'http://key@127.0.0.1:1/1' })
  app.get('/', async () => Promise.reject(new Error('boom')))
  const Sentry = await import('@sentry/node')
  const client = Sentry.init({ dsn: ingest.dsn, environment: 'mine', defaultIntegrations: false })
  await app.ready()
  t.equal(process.listenerCount('uncaughtException'), listeners)
  await app.inject('/')
  await app.close()
  t.equal(Sentry.getClient(), client)
  await ingest.event(({ environment }) => environment === 'mine')
  await Sentry.close(1_000)
  await ingest.close()
})
