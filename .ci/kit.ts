// Packs the packages and runs the tests of docs/testing.md on the tarballs: in node:test, vitest, Jest and tap. Run after `pnpm build`.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { check, conclude, pack, publishedFolders } from './tarballs.ts'

const RUNNERS = ['jest@30', 'vitest@5', 'tap@21']
const PEERS = ['fastify@^5.12.0', '@opentelemetry/api@^1.10.0', '@sentry/node@^11.12.0']
// tap builds itself for the plugins that it is told of, here for none that needs TypeScript.
const FILES = { 'package.json': '{ "type": "module", "private": true }', '.taprc': 'plugin: ["!@tapjs/typescript"]\n' }
const TIMEOUT_MS = 120_000
const BLOCK = /```js\n(\/\/ (\S+)\n.*?)```/gs

const work = await mkdtemp(join(tmpdir(), 'kit-'))
const project = join(work, 'project')
const bin = join(project, 'node_modules/.bin')

async function run(command: string, args: string[], env: object = {}): Promise<string> {
  const options = { cwd: project, env: { ...process.env, ...env }, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' } as const
  const { stdout, stderr } = await promisify(execFile)(command, args, options)
  return stdout + stderr
}

await check('packs, and npm installs the tarballs beside vitest, Jest and tap', async () => {
  const tarballs = await pack((await publishedFolders()).keys(), work)
  await mkdir(project)
  const page = await readFile('docs/testing.md', 'utf8')
  const blocks = Array.from(page.matchAll(BLOCK), ([, code = '', name = '']) => [name, code] as const)
  assert.equal(blocks.length, page.match(/^```\w/gm)?.length)
  for (const [name, text] of [...blocks, ...Object.entries(FILES)]) await writeFile(join(project, name), text)
  const files = tarballs.map(({ filename }) => filename)
  await run('npm', ['install', '--no-audit', '--no-fund', ...files, ...PEERS, ...RUNNERS])
})
await check('node:test runs its tests of the page', async () => {
  assert.match(await run(process.execPath, ['--test', 'node.test.js']), /pass 2/)
})
await check('vitest runs its test of the page', async () => {
  assert.match(await run(join(bin, 'vitest'), ['run', 'vitest.test.js']), /1 passed/)
})
await check('Jest runs its test of the page, and ends', async () => {
  const env = { NODE_OPTIONS: '--experimental-vm-modules' }
  const output = await run(join(bin, 'jest'), ['--testMatch', '**/jest.test.js'], env)
  assert.match(output, /1 passed/)
  assert.doesNotMatch(output, /did not exit|open handle|force exited/)
})
await check('tap runs its test of the page', async () => {
  await run(join(bin, 'tap'), ['build'])
  assert.match(await run(join(bin, 'tap'), ['run', '--disable-coverage', '--reporter=tap', 'tap.test.js']), /pass: 2/)
})

await rm(work, { recursive: true })
conclude()
