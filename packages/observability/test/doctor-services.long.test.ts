import { test } from 'tap'
import { diagnose, faultsIn, folderOf, serviceOf } from './doctor.ts'

const FILE = 'server.mjs'

const EXPORTS = {
  'default export': 'export default app',
  'export named app': 'export { app }',
  'default export of a function that builds it': 'export default () => app',
  'export named buildApp of an async function': 'export const buildApp = async ({ port = 8000 }) => app'
}
for (const [what, statement] of Object.entries(EXPORTS)) {
  test(`finds the app in the ${what}`, async (t) => {
    const file = serviceOf().replace('export default app', statement)
    const { code, findings } = await diagnose(folderOf(t, { [FILE]: file }), {}, FILE)
    t.match(
      findings.find(({ check }) => check === 'service')?.text,
      'server.mjs is ready, as orders, 1.4.0, development'
    )
    t.equal(code, 0)
  })
}

test('finds the app in what a CommonJS file exports', async (t) => {
  const [fastify, suite] = [/import Fastify from (.*)/, /import observability from (.*)/].map(
    (line) => line.exec(serviceOf())?.[1]
  )
  const file = `module.exports = async () => {
    const app = (await import(${fastify})).default()
    return app.register((await import(${suite})).default)
  }`
  const result = await diagnose(folderOf(t, { 'server.cjs': file }), {}, 'server.cjs')
  t.same([result.code, faultsIn(result)], [0, []])
})

const BROKEN: [what: string, fault: string, file: string, words: RegExp][] = [
  ['throws', 'import-failed', 'throw new TypeError("no PORT")', /^server\.mjs: TypeError: no PORT at .*server\.mjs:1/],
  ['has a wrong option', 'import-failed', serviceOf({ suite: '{ trace: true }' }), /unknown option "trace"/],
  ['exports no app', 'no-app', 'export const port = 8000', /^server\.mjs: no Fastify app among what it exports: port$/],
  [
    'does not register the umbrella',
    'not-registered',
    serviceOf().replace(/await app.register.*/, ''),
    /app\.observability is missing$/
  ],
  ['ends the process', 'ended', 'process.exit(3)', /its process ended by exit code 3$/]
]
for (const [what, fault, file, words] of BROKEN) {
  test(`reports ${fault} for a file that ${what}`, async (t) => {
    const result = await diagnose(folderOf(t, { [FILE]: file }), {}, FILE)
    t.same([result.code, faultsIn(result)], [1, [fault]])
    t.match(
      result.findings.find((finding) => finding.fault === fault),
      { text: words, remedy: /./, link: /#/ }
    )
  })
}

const ENDLESS = {
  'an import that never ends': 'await new Promise(() => {})',
  'a loop that never ends': 'for (;;);',
  'a plugin that is never ready': serviceOf({
    options: '{ pluginTimeout: 0 }',
    after: 'app.register((app, options, done) => {})'
  })
}
for (const [what, file] of Object.entries(ENDLESS)) {
  test(`gives up on ${what}`, async (t) => {
    const result = await diagnose(folderOf(t, { [FILE]: file }), {}, FILE, '--timeout', '2')
    t.same([result.code, faultsIn(result)], [1, ['not-ready']])
    t.match(JSON.stringify(result.findings), 'server.mjs was not ready after 2 s')
  })
}

test('lists what of its own pino and Fastify a service keeps', async (t) => {
  const options = '{ logger: { level: "warn", messageKey: "message" }, trustProxy: true }'
  const { findings } = await diagnose(folderOf(t, { [FILE]: serviceOf({ options }) }), {}, FILE)
  t.match(
    findings.find(({ check }) => check === 'settings')?.text,
    'logger: level "warn", logger: messageKey "message"'
  )
  t.match(findings.find(({ check }) => check === 'proxy')?.text, 'trustProxy is set')
})

test('asks for trustProxy on a platform that has proxies', async (t) => {
  const folder = folderOf(t, { [FILE]: serviceOf() })
  const result = await diagnose(folder, { KUBERNETES_SERVICE_HOST: '10.0.0.1' }, FILE)
  t.match(result.findings.find(({ fault }) => fault === 'trust-proxy')?.text, 'this is Kubernetes, which has proxies')
  t.equal(result.code, 0)
})

test('loads a service with the preload that its start script has', async (t) => {
  const register = `import ${JSON.stringify(new URL('../src/register.ts', import.meta.url).href)}`
  const suite = {
    'package.json': JSON.stringify({ type: 'module', exports: { './register': './register.js' } }),
    'register.js': register
  }
  const before = `import ${JSON.stringify(import.meta.resolve('pg'))}`
  const folder = folderOf(
    t,
    { [FILE]: serviceOf({ before }), node_modules: { 'fastify-observability': suite } },
    { scripts: { start: 'NODE_ENV=production node --import fastify-observability/register server.mjs' } }
  )
  const result = await diagnose(folder, {}, FILE)
  t.same(faultsIn(result), [])
  t.match(result.findings.find(({ check }) => check === 'preload')?.text, /^calls of .*\bpg \d.* have spans$/)
})
