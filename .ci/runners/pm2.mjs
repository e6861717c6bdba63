// node pm2.mjs DOCUMENT PORT FIRST_MANAGEMENT_PORT: runs the two files of the document under a PM2 of its own, reloads it, and
// compares what was asked with the metrics of each process and the lines that PM2 has collected.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const REQUESTS = 20
const [document, port, first] = process.argv.slice(2)
const recipes = await readFile(document, 'utf8')
const folder = await mkdtemp(join(process.cwd(), 'pm2-'))
const home = join(folder, 'home')

function pm2(...args) {
  const file = join('node_modules', 'pm2', 'bin', 'pm2')
  const options = { env: { ...process.env, PM2_HOME: home }, timeout: 60_000 }
  return promisify(execFile)(process.execPath, [file, ...args], options)
}

function recipe(name) {
  return new RegExp(`\`\`\`js\\n(// ${RegExp.escape(name)}\\n.*?)\`\`\``, 's').exec(recipes)[1]
}

async function ask() {
  for (let request = 0; request < REQUESTS; request++) {
    await (await fetch(`http://127.0.0.1:${port}/orders/7`, { headers: { connection: 'close' } })).text()
  }
}

async function count(number) {
  const metrics = await (await fetch(`http://127.0.0.1:${Number(first) + number}/metrics`)).text()
  return Number(/^http_server_request_duration_seconds_count\{.*"\/orders\/:id".*\} (\d+)$/m.exec(metrics)?.[1] ?? 0)
}

// PM2 writes lines to files of its own from within each process. What a slow disk has not taken must not end with the process.
const SLOW_DISK = `import fs from 'node:fs'
const { write, writev } = fs
fs.write = (...args) => setTimeout(write, 100, ...args)
fs.writev = (...args) => setTimeout(writev, 100, ...args)
`

await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
await writeFile(
  join(folder, 'service.js'),
  SLOW_DISK + recipe('service.js').replace('8000', port).replace('9100', first)
)
await writeFile(
  join(folder, 'ecosystem.config.cjs'),
  recipe('ecosystem.config.cjs').replace("'service.js'", `'${join(folder, 'service.js')}'`)
)
try {
  await pm2('start', join(folder, 'ecosystem.config.cjs'))
  await ask()
  const counts = [await count(0), await count(1)]
  assert.ok(counts.every((asked) => asked > 0))
  assert.equal(counts[0] + counts[1], REQUESTS)
  await pm2('reload', 'orders')
  await ask()
  assert.equal((await count(0)) + (await count(1)), REQUESTS)
  await pm2('stop', 'orders')
  const names = (await readdir(join(home, 'logs'))).filter((name) => name.startsWith('orders-out'))
  const logs = await Promise.all(names.map((name) => readFile(join(home, 'logs', name), 'utf8')))
  const lines = logs
    .join('')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal(lines.filter(({ route }) => route === '/orders/:id').length, 2 * REQUESTS)
  assert.equal(lines.filter(({ msg }) => msg === 'shutdown finished').length, 4)
} finally {
  await pm2('kill')
  await rm(folder, { recursive: true })
}
