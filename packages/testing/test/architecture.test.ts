import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Test, test } from 'tap'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const run = promisify(execFile)

/** What the project's own check says of these files, and of nothing else. */
async function check(t: Test, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'architecture-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await cp(join(ROOT, 'biome.json'), join(folder, 'biome.json'))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  const biome = join(ROOT, 'node_modules/.bin/biome')
  const options = ['lint', '--vcs-enabled=false', '--colors=off', '.']
  return run(biome, options, { cwd: folder }).then(
    () => 'nothing',
    ({ stdout, stderr }) => `${stdout}${stderr}`
  )
}

test('finds nothing wrong with files that import downwards', async (t) => {
  const files = {
    'packages/logging/src/index.ts': "import { b } from './b.ts'\n\nexport const a = b\n",
    'packages/logging/src/b.ts': "import { c } from '@fastify-observability/observation'\n\nexport const b = c\n"
  }
  t.equal(await check(t, files), 'nothing')
})

for (const [kind, word] of [
  ['values', 'import'],
  ['types only', 'import type']
]) {
  test(`refuses a circle of imports, of ${kind}`, async (t) => {
    const said = await check(t, {
      'packages/observation/src/a.ts': `${word} { B } from './b.ts'\n\nexport class A {\n  b: B | undefined\n}\n`,
      'packages/observation/src/b.ts': `${word} { A } from './a.ts'\n\nexport class B {\n  a: A | undefined\n}\n`
    })
    t.match(said, 'lint/suspicious/noImportCycles')
  })
}

for (const [what, path, imported, sentence] of [
  ['a part that imports another', 'packages/metrics/src/a.ts', '@fastify-observability/tracing', 'Parts meet'],
  [
    'one that imports a preload of another',
    'packages/sentry/src/a.ts',
    '@fastify-observability/tracing/register',
    'Parts meet'
  ],
  ['a part that imports the umbrella', 'packages/health/src/a.ts', 'fastify-observability', 'Parts meet'],
  [
    'an observation that imports a part',
    'packages/observation/src/a.ts',
    '@fastify-observability/logging',
    'Parts meet'
  ],
  ['a source that imports a test', 'packages/logging/src/a.ts', '../test/writer.ts', 'Nothing imports a test'],
  ['an example that imports a test', 'examples/orders/a.ts', './test/orders.test.ts', 'Nothing imports a test']
] as const) {
  test(`refuses ${what}`, async (t) => {
    const said = await check(t, { [path]: `import value from '${imported}'\n\nexport const a = value\n` })
    t.match(said, 'lint/style/noRestrictedImports')
    t.match(said, sentence)
  })
}
