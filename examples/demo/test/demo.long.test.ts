import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { freePorts } from '@fastify-observability/testing/ports'
import { test } from 'tap'

// The embedded PostgreSQL alone takes seconds on a busy machine.
const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

async function listen(): Promise<[Server, string]> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return [server, String(typeof address === 'object' ? address?.port : address)]
}

async function ownPorts(): Promise<{ ORDERS_PORT: string; PAYMENTS_PORT: string }> {
  const [orders, payments] = await freePorts(2)
  return { ORDERS_PORT: String(orders), PAYMENTS_PORT: String(payments) }
}

async function run(env: Record<string, string>, ...flags: string[]) {
  const demo = spawn(process.execPath, [MAIN, ...flags], { env: { ...process.env, ...env } })
  const [out, err, [code]] = await Promise.all([text(demo.stdout), text(demo.stderr), once(demo, 'exit')])
  return { out, err, code }
}

test('shows every signal of a round of requests and ends with 0', async (t) => {
  // What the user's shell exports does not reach the services.
  const { out, err, code } = await run(
    { ...(await ownPorts()), OTEL_SDK_DISABLED: 'true', LOG_LEVEL: 'silent' },
    '--once'
  )
  t.equal(err, '')
  t.equal(code, 0)
  t.notMatch(out, 'missing:')
  const headings = [...out.matchAll(/^── (\w+)/gm)].map(([, name]) => name)
  t.same(headings, ['Logs', 'Trace', 'Metrics', 'Health', 'Sentry'])
  t.match(out, / {2}POST \/orders .*SERVER.*\n {2}└─ process_order .*\n {5}├─ validate .*\n {5}├─ charge .*\n/)
  t.match(out, / {5}└─ pg\.query:INSERT postgres +orders +CLIENT/)
  t.match(out, /POST \/charges +payments +SERVER/)
  t.same(
    out.split('\n').filter((line) => line.length > 100),
    []
  )
})

for (const name of ['ORDERS_PORT', 'PAYMENTS_PORT'] as const) {
  test(`refuses ${name} in use before it starts anything`, async (t) => {
    const [server, port] = await listen()
    const { out, err, code } = await run({ ...(await ownPorts()), [name]: port }, '--once')
    const other = name === 'ORDERS_PORT' ? 18000 : 18001
    t.same([out, err, code], ['', `Port ${port} is already in use: set another one, such as ${name}=${other}.\n`, 1])
    server.close()
  })
}

test('refuses an invalid port, and an unknown flag', async (t) => {
  const port = await run({ ORDERS_PORT: 'http' })
  t.equal(port.err, 'ORDERS_PORT must be a whole number from 1 to 65535, got "http": set ORDERS_PORT=8000.\n')
  const flag = await run({}, '--twice')
  t.equal(flag.err, 'demo takes --once or nothing, got --twice.\n')
  t.same([port.code, flag.code], [1, 1])
})
