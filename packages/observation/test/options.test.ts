import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'tap'
import * as v from 'valibot'
import { parseEnv, parseOptions, resolveService, serviceSchema } from '../src/internal.ts'

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

const APPLICATIONS: Record<string, [files: Record<string, string>, main: string, expected: [string, string?]]> = {
  'of the folder above the main module': [
    { 'package.json': '{"name":"@shop/orders","version":"1.2.3"}' },
    'dist/server.js',
    ['@shop/orders', '1.2.3']
  ],
  'above one without a name, and a broken one': [
    {
      'package.json': '{"name":"orders"}',
      'src/package.json': '{"name":',
      'src/app/package.json': '{"type":"module"}'
    },
    'src/app/server.js',
    ['orders']
  ],
  'above node_modules, for a command': [
    { 'package.json': '{"name":"orders","version":"2.0.0"}', 'node_modules/cli/package.json': '{"name":"cli"}' },
    'node_modules/cli/cli.js',
    ['orders', '2.0.0']
  ],
  'never of this project': [
    { 'package.json': '{"name":"orders"}', 'ours/package.json': '{"name":"@fastify-observability/metrics"}' },
    'ours/test/metrics.test.js',
    ['unknown_service:node']
  ],
  'unless it is no text': [
    { 'package.json': '{"name":"orders","version":3}', 'inner/package.json': '{"name":["orders"]}' },
    'inner/server.js',
    ['orders']
  ]
}
for (const [which, [files, main, [name, version]]] of Object.entries(APPLICATIONS)) {
  test(`names the service by the package.json ${which}`, async (t) => {
    const folder = t.testdir()
    for (const [path, content] of Object.entries({ ...files, [main]: '' })) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), content)
    }
    t.match(resolveService(undefined, {}, join(folder, main)), { name, version })
    t.match(resolveService({ version: '9' }, { OTEL_SERVICE_NAME: 'env' }, join(folder, main)), {
      name: 'env',
      version: '9'
    })
    t.equal(resolveService({ name: 'option' }, {}, join(folder, main)).version, undefined)
  })
}

test('follows a link to the main module, and has no application where there is none', async (t) => {
  const folder = t.testdir({ app: { 'package.json': '{"name":"linked"}', 'server.js': '' }, bin: {} })
  symlinkSync('../app/server.js', join(folder, 'bin/start'))
  t.equal(resolveService(undefined, {}, join(folder, 'bin/start')).name, 'linked')
  t.equal(resolveService(undefined, {}, '').name, 'unknown_service:node')
  t.equal(resolveService(undefined, {}, '/nowhere/server.js').name, 'unknown_service:node')
})

test('repeats no URL of a variable, which may hold a password', async (t) => {
  const warnings: string[] = []
  const rule = v.pipe(
    v.string(),
    v.check(() => false, 'a DSN')
  )
  parseEnv(v.object({ ANY_DSN: v.optional(rule) }), (message) => warnings.push(message), {
    ANY_DSN: 'https://hunter2@x'
  })
  t.same(warnings, ['ANY_DSN must be a DSN, its value is ignored'])
})
