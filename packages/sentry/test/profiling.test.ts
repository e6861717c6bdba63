import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

test('profiles what it traces', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn, tracesSampleRate: 1, profilesSampleRate: 1 })
  app.get('/', async () => 'ok')
  const origin = await app.listen({ port: 0 })
  let isProfiled = false
  const profile = ingest.item('profile_chunk').finally(() => (isProfiled = true))
  // The first requests come before the SDK has been loaded.
  while (!isProfiled) await (await fetch(origin)).text()
  await profile
  await app.close()
  t.ok(ingest.items.some(({ type }) => type === 'profile_chunk'))
})
