import { test } from 'tap'
import * as v from 'valibot'
import { parseOptions, resolveService, serviceSchema } from '../src/internal.ts'

const RULE = 'a function or { check }'
const schema = v.strictObject({
  service: serviceSchema,
  path: v.optional(v.pipe(v.string('a path'), v.startsWith('/', 'a path'))),
  checks: v.optional(v.record(v.string(), v.union([v.function(RULE), v.strictObject({ check: v.function() })], RULE)))
})

const SENTENCES: [string, unknown, string][] = [
  ['an unknown option', { paht: '/x' }, `pkg: unknown option "paht": did you mean "path"?, got '/x'`],
  ['an option unlike any', { zzzzzzzz: 1 }, 'pkg: unknown option "zzzzzzzz": allowed are service, path, checks, got 1'],
  [
    'a nested unknown option',
    { service: { nam: 'x' } },
    `pkg: unknown option "service.nam": did you mean "name"?, got 'x'`
  ],
  ['a wrong type', { path: 1 }, 'pkg: option "path" must be a path, got 1'],
  ['a wrong value', { path: 'x' }, `pkg: option "path" must be a path, got 'x'`],
  ['a wrong alternative', { checks: { db: 'x' } }, `pkg: option "checks.db" must be a function or { check }, got 'x'`],
  [
    'a typo in an alternative',
    { checks: { db: { chek: 1 } } },
    'pkg: unknown option "checks.db.chek": did you mean "check"?, got 1'
  ],
  ['a missing part', { checks: { db: {} } }, 'pkg: option "checks.db.check" is missing, got undefined'],
  ['no object at all', 'x', `pkg: the options must be object, got 'x'`]
]

test('refuses in one sentence with package, option, rule and value', async (t) => {
  for (const [title, options, sentence] of SENTENCES) {
    t.throws(() => parseOptions('pkg', schema, options), new TypeError(sentence), title)
  }
})

test('returns options that hold', async (t) => {
  t.same(parseOptions('pkg', schema, { path: '/x' }), { path: '/x' })
  t.same(parseOptions('pkg', schema), {})
})

test('resolves the service: option, then OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES, then the default', async (t) => {
  const OTEL_RESOURCE_ATTRIBUTES = 'service.name=attr,service.version=1.2,deployment.environment.name=a%20b,broken'
  const fromAttributes = { name: 'attr', version: '1.2', environment: 'a b' }
  t.same(resolveService(undefined, {}), {
    name: 'unknown_service:node',
    version: undefined,
    environment: 'development'
  })
  t.same(resolveService(undefined, { OTEL_RESOURCE_ATTRIBUTES, NODE_ENV: 'test' }), fromAttributes)
  t.same(resolveService(undefined, { OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME: 'env' }).name, 'env')
  t.same(resolveService({ name: 'option' }, { OTEL_SERVICE_NAME: 'env' }).name, 'option')
})
