import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

// It brings up two services, with a PostgreSQL of their own.
const STACK = fileURLToPath(new URL('../stack.ts', import.meta.url))

test('says which parts are missing, goes on without them, and fails the check', async (t) => {
  // PostgreSQL is found elsewhere, and asks who its user is.
  const PATH = t.testdir({ id: t.fixture('symlink', '/usr/bin/id') })
  const child = spawn(process.execPath, [STACK, '--check'], { env: { PATH } })
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  t.equal(code, 1)
  for (const part of ['Redis or Valkey', 'Jaeger', 'the OpenTelemetry Collector', 'Prometheus']) {
    t.match(said, `missing: ${part}`)
  }
  t.match(said, /seen: orders is ready\nseen: payments is ready\nseen: an order is placed, in trace [0-9a-f]{32}\n/)
  t.match(said, '3 of 3 checks hold')
})
