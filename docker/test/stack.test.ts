import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

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
