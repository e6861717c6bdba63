import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { test } from 'tap'

const cwd = new URL('../../', import.meta.url)
// tap has every process that a test starts load a TypeScript of its own: what `env` starts it does not reach.
const WITHOUT_TAP = ['-u', 'NODE_OPTIONS']
const run = (command: string, args: string[]) => promisify(execFile)('env', [...WITHOUT_TAP, command, ...args], { cwd })
const MANIFEST = new URL('packages/observability/package.json', cwd)
const DOCKERFILE = readFileSync(new URL('examples/Dockerfile', cwd), 'utf8')

test('puts into the image what runs from compiled packages alone, and ends well on SIGTERM', async (t) => {
  const app = `${t.testdir({})}/app`
  const manifest = readFileSync(MANIFEST, 'utf8')
  await run('npx', ['-y', 'pnpm@12', 'build'])
  const filter = '@fastify-observability/example-orders'
  await run('npx', ['-y', 'pnpm@12', '--filter', filter, 'deploy', '--legacy', '--prod', app])
  const { stdout } = await run(process.execPath, ['examples/image.ts', app])
  t.match(stdout, /^10 packages of the workspace/)

  const env = { PATH: process.env.PATH, PORT: '0', LOG_FORMAT: 'json' }
  const service = spawn(
    'env',
    [...WITHOUT_TAP, process.execPath, '--import', 'fastify-observability/register', 'server.ts'],
    { cwd: app, env }
  )
  for await (const chunk of service.stdout) if (String(chunk).includes('Server listening at')) break
  service.kill('SIGTERM')
  t.same(await once(service, 'exit'), [0, null])
  t.equal(readFileSync(MANIFEST, 'utf8'), manifest, 'and leaves the workspace as it is, which pnpm links files from')
})

test('has those commands in the Dockerfile', async (t) => {
  for (const command of ['pnpm@12 build', 'deploy --legacy --prod /app', 'node examples/image.ts /app']) {
    t.match(DOCKERFILE, command)
  }
  t.match(DOCKERFILE, 'CMD ["node", "--import", "fastify-observability/register", "server.ts"]')
})
