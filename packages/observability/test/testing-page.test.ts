import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'

const PAGE = readFileSync(new URL('../../../docs/testing.md', import.meta.url), 'utf8')
const BLOCKS = Array.from(PAGE.matchAll(/```js\n\/\/ (\S+)\n(.*?)```/gs), ([, name = '', code = '']) => [name, code])
const MODULES: Record<string, string> = {
  fastify: import.meta.resolve('fastify'),
  tap: import.meta.resolve('tap'),
  'fastify-observability': import.meta.resolve('../src/index.ts'),
  'fastify-observability/testing': import.meta.resolve('../src/testing.ts')
}

test('every block of the page is the app, or a test of it in one of the runners', async (t) => {
  t.equal(BLOCKS.length, PAGE.match(/^```\w/gm)?.length)
  t.same(
    BLOCKS.map(([name]) => name),
    ['app.js', 'node.test.js', 'vitest.test.js', 'jest.test.js', 'tap.test.js']
  )
})

// vitest and Jest run theirs in .ci/kit.ts.
for (const [name, count] of [
  ['node.test.js', 2],
  ['tap.test.js', 1]
] as const) {
  test(`${name} passes`, async (t) => {
    const files = BLOCKS.map(([file = '', code = '']) => [
      file,
      code
        .replaceAll('observe(app)', `observe(app, { timeoutMs: ${PATIENCE_MS} })`)
        .replace(/from '([^'.]+)'/g, (all, specifier) => (MODULES[specifier] ? `from '${MODULES[specifier]}'` : all))
    ])
    const folder = t.testdir({ 'package.json': '{ "type": "module" }', ...Object.fromEntries(files) })
    const child = spawn(process.execPath, [join(folder, name)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
    t.equal(code, 0, output)
    t.match(output, new RegExp(`(pass|ok) ${count}\\b`))
  })
}
