import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'

test('uses the copy of @sentry/node that a CommonJS application has loaded', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  // tap has every process that a test starts load a TypeScript of its own: what `env` starts it does not reach.
  const command = ['-u', 'NODE_OPTIONS', process.execPath, join(import.meta.dirname, 'required.cjs'), ingest.dsn]
  const { stdout } = await promisify(execFile)('env', command, { timeout: PATIENCE_MS })
  t.same(JSON.parse(stdout), { esModules: 0, isShared: true })
  t.match(
    ingest.events.map(({ exception }) => exception?.values?.[0]?.value),
    ['broken']
  )
})
