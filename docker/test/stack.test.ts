import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

// It brings up two services, with a PostgreSQL of their own.
const STACK = fileURLToPath(new URL('../stack.ts', import.meta.url))

async function run(args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [STACK, ...args], { env: { PATH: process.env.PATH, ...env } })
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  return { said, code }
}

test('takes --check or nothing', async (t) => {
  t.same(await run(['--chekc']), { said: 'stack takes --check or nothing, got --chekc.\n', code: 1 })
})

test('names a port that is taken and the variable that changes it', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const address = taken.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const { said, code } = await run([], { ORDERS_PORT: String(port) })
  taken.close()
  t.same([said, code], [`Port ${port} is already in use: set another one, such as ORDERS_PORT=18000.\n`, 1])
})

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
