import Fastify from 'fastify'
import { test } from 'tap'
import * as v from 'valibot'
import { docsOf } from '../src/docs.ts'
import observation from '../src/index.ts'
import { parseOptions } from '../src/options/parse.ts'

test('a line of level warn has the address of its section beside its other fields', async (t) => {
  const lines: unknown[] = []
  const app = Fastify({ logger: { stream: { write: (line) => void lines.push(JSON.parse(line)) } } })
  t.teardown(() => app.close())
  await app.register(observation)
  app.observation.report('mine', new Error('no'))
  t.match(lines, [{ observer: 'mine', err: { message: 'no' }, docs: docsOf('functions-that-fail') }])
})

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
