import { execFile } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'tap'

const ROOT = join(import.meta.dirname, '../../..')
const root = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const execute = promisify(execFile)

for (const path of globSync('packages/*/package.json', { cwd: ROOT })) {
  const manifest = JSON.parse(readFileSync(join(ROOT, path), 'utf8'))
  if (manifest.private) continue
  const folder = dirname(path)

  test(`${manifest.name} says where it comes from, as the workspace does`, async (t) => {
    const { author, license, repository, bugs, homepage } = root
    t.match(manifest, { author, license, bugs, homepage: homepage.replace('#', `/tree/main/${folder}#`) })
    t.same(manifest.repository, { ...repository, directory: folder })
    t.ok(manifest.keywords.length >= 5)
  })

  test(`${manifest.name} names the modules that do something when they are loaded`, async (t) => {
    const hasPreload = './register' in manifest.exports
    t.same(manifest.sideEffects, hasPreload ? ['./dist/register.js', './src/register.ts'] : false)
  })

  test(`${manifest.name} is packed alike by npm and pnpm`, async (t) => {
    const packing = 'node ../../.ci/packing.mjs'
    t.match(manifest.scripts, { prepack: `${packing} start`, postpack: `${packing} restore` })
  })

  test(`${manifest.name} is published by pnpm only`, async (t) => {
    t.match(manifest.scripts, { prepublishOnly: 'node ../../.ci/before-publish.mjs' })
    const env = { ...process.env, npm_execpath: '/usr/lib/node_modules/npm/bin/npm-cli.js' }
    const publishing = execute(process.execPath, ['../../.ci/before-publish.mjs'], { cwd: join(ROOT, folder), env })
    const { stderr } = await publishing.then(
      () => ({ stderr: '' }),
      (error: { stderr: string }) => error
    )
    t.equal(stderr, `${manifest.name} is not published: publish with pnpm\n`)
  })
}
