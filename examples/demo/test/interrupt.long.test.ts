import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { freePorts } from '@fastify-observability/testing/ports'
import { test } from 'tap'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

async function isOpen(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const [event] = await Promise.race([
    once(socket, 'connect').then(() => [true]),
    once(socket, 'close').then(() => [false])
  ]).catch(() => [false])
  socket.destroy()
  return event === true
}

test('stays up until it is interrupted and leaves no service behind', async (t) => {
  const [orders = 0, payments = 0] = await freePorts(2)
  const env = { ...process.env, ORDERS_PORT: String(orders), PAYMENTS_PORT: String(payments) }
  const demo = spawn(process.execPath, [MAIN], { env })
  const ended = once(demo, 'exit')
  for await (const chunk of demo.stdout) {
    if (!String(chunk).includes('stay up until Ctrl-C')) continue
    t.equal(await isOpen(orders), true)
    demo.kill('SIGINT')
  }
  t.same(await ended, [0, null])
  t.same([await isOpen(orders), await isOpen(payments)], [false, false])
})
