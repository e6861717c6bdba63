import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

// The embedded PostgreSQL alone takes seconds on a busy machine.
const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

async function listen(): Promise<[Server, string]> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return [server, String(typeof address === 'object' ? address?.port : address)]
}

async function freePorts(): Promise<{ ORDERS_PORT: string; PAYMENTS_PORT: string }> {
  const [[one, ORDERS_PORT], [other, PAYMENTS_PORT]] = await Promise.all([listen(), listen()])
  one.close()
  other.close()
  await Promise.all([once(one, 'close'), once(other, 'close')])
  return { ORDERS_PORT, PAYMENTS_PORT }
}

function start(env: Record<string, string>, ...flags: string[]) {
  return spawn(process.execPath, [MAIN, ...flags], { env: { ...process.env, ...env } })
}

async function run(env: Record<string, string>, ...flags: string[]) {
  const demo = start(env, ...flags)
  const [out, err, [code]] = await Promise.all([text(demo.stdout), text(demo.stderr), once(demo, 'exit')])
  return { out, err, code }
}

async function isOpen(port: string): Promise<boolean> {
  const socket = connect(Number(port), '127.0.0.1')
  const [event] = await Promise.race([
    once(socket, 'connect').then(() => [true]),
    once(socket, 'close').then(() => [false])
  ]).catch(() => [false])
  socket.destroy()
  return event === true
}

test('shows every signal of a round of requests and ends with 0', async (t) => {
  // What the user's shell exports does not reach the services.
  const { out, err, code } = await run(
    { ...(await freePorts()), OTEL_SDK_DISABLED: 'true', LOG_LEVEL: 'silent' },
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
    const { out, err, code } = await run({ ...(await freePorts()), [name]: port }, '--once')
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

test('stays up until it is interrupted and leaves no service behind', async (t) => {
  const ports = await freePorts()
  const demo = start(ports)
  const ended = once(demo, 'exit')
  for await (const chunk of demo.stdout) {
    if (!String(chunk).includes('stay up until Ctrl-C')) continue
    t.equal(await isOpen(ports.ORDERS_PORT), true)
    demo.kill('SIGINT')
  }
  t.same(await ended, [0, null])
  t.same([await isOpen(ports.ORDERS_PORT), await isOpen(ports.PAYMENTS_PORT)], [false, false])
})
