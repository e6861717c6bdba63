import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'

const PACKAGES = fileURLToPath(new URL('../../', import.meta.url))

/** The names that a module exports, with those of the lists that it passes on whole. */
function exportsOf(file: string): string[] {
  const source = readFileSync(file, 'utf8')
  const lists = Array.from(source.matchAll(/^export (?:type )?\{([^}]*)\}/gm), ([, list = '']) => list.split(','))
  const listed = lists.flat().map((name) => name.replace(/.* as |type /g, '').trim())
  const declared = source.matchAll(/^export (?:async )?(?:function|const|class|interface|type|enum) (\w+)/gm)
  const passedOn = Array.from(source.matchAll(/^export \* from '(.*)'/gm), ([, from = '']) =>
    exportsOf(fileOf(from, file))
  )
  return [...listed, ...Array.from(declared, ([, name = '']) => name), ...passedOn.flat()].filter((name) => name !== '')
}

function fileOf(specifier: string, importer: string): string {
  const [, part, entry] = /^@fastify-observability\/([^/]+)\/(.+)$/.exec(specifier) ?? []
  return part === undefined ? join(dirname(importer), specifier) : join(PACKAGES, part, 'src', `${entry}.ts`)
}

/** The names in the README's list of exports. */
function documented(readme: string): string[] {
  const [, section = ''] = readme.split('\n## Exports\n')
  return Array.from((section.split('\n## ', 1)[0] ?? '').matchAll(/`(\w+)`/g), ([, name = '']) => name)
}

for (const manifest of globSync(`${PACKAGES}*/package.json`)) {
  const { name, private: isPrivate } = JSON.parse(readFileSync(manifest, 'utf8'))
  if (isPrivate) continue
  test(`the README of ${name} lists what it exports`, async (t) => {
    const names = exportsOf(manifest.replace('package.json', 'src/index.ts'))
    t.ok(names.length > 0)
    t.same(documented(readFileSync(manifest.replace('package.json', 'README.md'), 'utf8')).sort(), names.sort())
  })
}

test('the umbrella exports all that its parts do', async (t) => {
  const own = new Set(exportsOf(join(PACKAGES, 'observability/src/index.ts')))
  const parts = ['observation', 'request-id', 'logging', 'tracing', 'metrics', 'health', 'sentry', 'profiling']
  const missing = parts
    .flatMap((part) => exportsOf(join(PACKAGES, part, 'src/index.ts')))
    .filter((name) => !own.has(name))
  // Of another package, whose name it has.
  t.same(missing, ['IFastifyMetrics'])
})
