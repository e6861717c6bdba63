import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Test, test } from 'tap'

const PACKING = join(import.meta.dirname, '../../../.ci/packing.mjs')
const NPM = { ...process.env, npm_execpath: '/usr/lib/node_modules/npm/bin/npm-cli.js' }
const MANIFEST = {
  name: 'part',
  version: '1.2.3',
  scripts: { prepack: 'start', postpack: 'restore', install: 'kept' },
  exports: { '.': { built: './dist/index.js', default: './src/index.ts' } },
  publishConfig: { access: 'public', exports: { '.': './dist/index.js' }, main: './dist/index.js' },
  dependencies: { sibling: 'workspace:^', outside: 'catalog:', plain: '^5.0.0' }
}

/** A workspace with one package, which has been built, and the folder of that. */
function workspace(t: Test, dist: Record<string, string> = { 'index.js': '' }) {
  const sibling = { 'package.json': JSON.stringify({ version: '2.0.1' }) }
  const part = { 'package.json': JSON.stringify(MANIFEST), dist, node_modules: { sibling } }
  const root = { 'pnpm-workspace.yaml': 'catalog:\n  outside: ~3.1.0\n', LICENSE: 'MIT', packages: { part } }
  return join(t.testdir(root), 'packages/part')
}

function packing(command: string, cwd: string, env: NodeJS.ProcessEnv = NPM) {
  return promisify(execFile)(process.execPath, [PACKING, command], { cwd, env })
}

test('while npm packs, package.json is what pnpm would publish, and after that what it was', async (t) => {
  const part = workspace(t)
  await packing('start', part)
  const { exports, main } = MANIFEST.publishConfig
  const dependencies = { sibling: '^2.0.1', outside: '~3.1.0', plain: '^5.0.0' }
  const changes = { exports, main, dependencies, scripts: { install: 'kept' }, publishConfig: { access: 'public' } }
  t.same(JSON.parse(readFileSync(join(part, 'package.json'), 'utf8')), { ...MANIFEST, ...changes })
  t.equal(readFileSync(join(part, 'LICENSE'), 'utf8'), 'MIT')
  await packing('restore', part)
  t.equal(readFileSync(join(part, 'package.json'), 'utf8'), JSON.stringify(MANIFEST))
  t.throws(() => readFileSync(join(part, 'LICENSE')))
})

test('while pnpm packs, package.json stays as it is', async (t) => {
  const part = workspace(t)
  await packing('start', part, { ...process.env, npm_execpath: '/usr/bin/pnpm.cjs' })
  t.equal(readFileSync(join(part, 'package.json'), 'utf8'), JSON.stringify(MANIFEST))
})

test('a package without a build is not packed', async (t) => {
  const part = workspace(t, {})
  const stderr = 'part is not packed: run "pnpm build" first, there is no ./dist/index.js\n'
  await t.rejects(packing('start', part), { code: 1, stderr })
})

test('a package that npm is packing is not packed a second time', async (t) => {
  const part = workspace(t)
  writeFileSync(join(part, 'node_modules/.package.json'), JSON.stringify(MANIFEST))
  await t.rejects(packing('start', part), { code: 1, stderr: /^part is being packed already; / })
})
