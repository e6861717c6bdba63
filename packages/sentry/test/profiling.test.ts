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
  await (await fetch(await app.listen({ port: 0 }))).text()
  await ingest.item('profile_chunk')
  await app.close()
  t.match(
    ingest.items.map(({ type }) => type),
    ['profile_chunk']
  )
})
