import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

// It takes a second where the machine has nothing else to do.
const PATIENCE_MS = 60_000

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

for (const [how, profiles] of [
  ['does not end', 1],
  ['does not end, by the lifecycle "trace" of the options', 1],
  ['does not end, by the lifecycle "manual" of the options', 1],
  ['does not end, and the application makes another client', 1],
  ['begins at the close', 1],
  ['is not sampled', 0]
] as const) {
  test(`sends what is profiled and lets the process end where a span ${how}`, async (t) => {
    const ingest = await startIngest()
    t.teardown(() => ingest.close())
    const path = fileURLToPath(new URL('unfinished.ts', import.meta.url))
    const child = spawn(process.execPath, [path, how, ingest.dsn], { stdio: 'inherit' })
    t.teardown(() => child.kill())
    const signal = AbortSignal.timeout(PATIENCE_MS)
    t.same(await once(child, 'exit', { signal }), [0, null])
    t.equal(ingest.items.filter(({ type }) => type === 'profile_chunk').length, profiles)
  })
}
