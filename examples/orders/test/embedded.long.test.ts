import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

// The embedded PostgreSQL takes seconds of CPU to start.
const SERVER = fileURLToPath(new URL('../server.ts', import.meta.url))

test('starts on an embedded PostgreSQL and ends well on SIGTERM', async (t) => {
  const env = {
    ...process.env,
    PORT: '0',
    LOG_LEVEL: 'info',
    LOG_FORMAT: 'json',
    DATABASE_URL: '',
    SHUTDOWN_DELAY_MS: '200'
  }
  const server = spawn(process.execPath, [SERVER], { env })
  let last: object = {}
  for await (const line of createInterface({ input: server.stdout })) {
    last = JSON.parse(line)
    if (line.includes('Server listening at')) server.kill('SIGTERM')
  }
  t.match(last, { msg: 'shutdown finished', signal: 'SIGTERM', dropped: {} })
  t.equal(server.exitCode ?? (await once(server, 'exit'))[0], 0)
})
