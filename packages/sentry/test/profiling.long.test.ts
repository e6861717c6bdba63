import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { startIngest } from '@fastify-observability/testing/ingest'
import { test } from 'tap'

// It takes a second where the machine has nothing else to do.
const END_MS = 60_000

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
    const signal = AbortSignal.timeout(END_MS)
    t.same(await once(child, 'exit', { signal }), [0, null])
    t.equal(ingest.items.filter(({ type }) => type === 'profile_chunk').length, profiles)
  })
}
