import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import { test } from 'tap'
import * as v from 'valibot'
import { docsOf } from '../src/docs.ts'
import observation from '../src/index.ts'
import { parseOptions } from '../src/options/parse.ts'

const PAGE = readFileSync(new URL('../../../docs/troubleshooting.md', import.meta.url), 'utf8')
const ANCHORS = Array.from(PAGE.matchAll(/^## (.*)$/gm), ([, title = '']) =>
  title
    .toLowerCase()
    .replace(/[^\w ]/g, '')
    .replaceAll(' ', '-')
)

for (const section of ['by-symptom', 'registered-late-or-twice', 'wrong-options'] as const) {
  test(`the address of ${section} leads to a section of the page`, async (t) => {
    t.ok(ANCHORS.includes(new URL(docsOf(section)).hash.slice(1)))
  })
}

test('the error of an invalid option has the address of its section', async (t) => {
  const schema = v.strictObject({ path: v.optional(v.string()) })
  t.match(
    t.throws(() => parseOptions('metrics', schema, { path: 7 })),
    { docs: docsOf('wrong-options') }
  )
})

test('the error of a route that both have has the address of its section', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observation)
  app.get('/health', { config: { observability: { operational: true } } }, () => 'ok')
  const error = t.throws(() => app.get('/health', () => 'mine'))
  t.match(error, { docs: docsOf('registered-late-or-twice') })
})
