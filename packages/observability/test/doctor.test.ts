import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { FAULTS } from '../src/doctor/faults.ts'
import { diagnose, type Files, faultsIn, folderOf, runCommand, serviceOf } from './doctor.ts'

const FILE = 'server.mjs'

test('says in words what it has looked at, and ends with 0 where nothing is wrong', async (t) => {
  const { code, output, complaint } = await runCommand(['doctor'], folderOf(t))
  t.match(output, /^fastify-observability \S+ doctor\n✓ versions /)
  t.match(
    output,
    /\n! endpoints +spans go nowhere: OTEL_EXPORTER_OTLP_ENDPOINT.*\n +\S.*\n +https:.*doctor\.md#nowhere\n/
  )
  t.match(output, /\nnothing is wrong, 1 to look at\n$/)
  t.same([code, complaint], [0, ''])
})

const BAD_USAGE: [string, string[]][] = [
  ['a command is missing', []],
  ['unknown command "nurse"', ['nurse']],
  ['one file at most', ['doctor', 'package.json', 'package.json']],
  ['there is no file missing.js', ['doctor', 'missing.js']],
  ["Unknown option '--loud'", ['doctor', '--loud']],
  ['--timeout must be from 1 to 40', ['doctor', '--timeout', '600']]
]
for (const [complaint, args] of BAD_USAGE) {
  test(`ends with 2 and the usage for "${args.join(' ')}": ${complaint}`, async (t) => {
    const result = await runCommand(args, folderOf(t))
    t.match(result, { code: 2, output: '' })
    t.match(result.complaint, `fastify-observability: ${complaint}`)
    t.match(result.complaint, '\nUsage: fastify-observability doctor [file] [options]\n')
  })
}

test('shows its usage and version when asked', async (t) => {
  const folder = folderOf(t)
  t.match(await runCommand(['--help'], folder), { code: 0, output: /^Usage: / })
  t.match(await runCommand(['--version'], folder), { code: 0, output: /^\d+\.\d+\.\d+\n$/ })
})

test('has a section of its page for each fault, which findings link to', async (t) => {
  const page = readFileSync(new URL('../../../docs/doctor.md', import.meta.url), 'utf8')
  const sections = Array.from(page.matchAll(/^### (.*)$/gm), ([, name]) => name)
  t.same(sections.sort(), Object.keys(FAULTS).sort())
})

test('reports what the suite warned of when the service started', async (t) => {
  const folder = folderOf(t, { [FILE]: serviceOf({ after: 'await app.register(observability)' }) })
  const result = await diagnose(
    folder,
    { OTEL_BSP_MAX_QUEUE_SIZE: 'many', OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' },
    FILE
  )
  t.same(faultsIn(result), ['variable'])
  t.match(
    JSON.stringify(result.findings),
    /OTEL_EXPORTER_OTLP_ENDPOINT must be an http:\/\/ or https:\/\/ URL, its value is ignored/
  )
  t.same(faultsIn(result, 'note'), ['warning', 'nowhere'])
})

test('reports a client of PostgreSQL that is loaded without the preload', async (t) => {
  const file = serviceOf({ before: `import ${JSON.stringify(import.meta.resolve('pg'))}` })
  const result = await diagnose(folderOf(t, { [FILE]: file }), {}, FILE)
  t.same(faultsIn(result), ['preload'])
  t.match(JSON.stringify(result.findings), /calls of pg have no spans: the preload has not run/)
})

test('names what is installed whose calls have spans by the preload only', async (t) => {
  const pg = { 'package.json': JSON.stringify({ name: 'pg', version: '8.23.1' }) }
  const folder = folderOf(t, { node_modules: { pg } }, { dependencies: { pg: '^8.0.0' } })
  t.same(faultsIn(await diagnose(folder), 'note'), ['preload', 'nowhere'])
  const flags = { NODE_OPTIONS: `--import ${new URL('../src/register.ts', import.meta.url).href}` }
  t.same(faultsIn(await diagnose(folder, flags), 'note'), ['nowhere'])
})

/** A package as it lies in node_modules. */
function installed(name: string, version: string, more: object = {}, inside: Files = {}): Files {
  return { 'package.json': JSON.stringify({ name, version, ...more }), ...inside }
}

test('reports a Fastify and a Node that the installed suite does not support', async (t) => {
  const node_modules = {
    fastify: installed('fastify', '4.29.1'),
    'fastify-observability': installed('fastify-observability', '9.0.0', {
      engines: { node: '>=99' },
      peerDependencies: { fastify: '^5.10.0', '@opentelemetry/api': '>=1.10.0 <1.11.0', '@sentry/node': '^11.12.0' },
      peerDependenciesMeta: { '@sentry/node': { optional: true } }
    })
  }
  const dependencies = { fastify: '*', 'fastify-observability': '*' }
  const result = await diagnose(folderOf(t, { node_modules }, { dependencies }))
  t.same([result.code, faultsIn(result)], [1, ['node-version', 'package-version', 'not-installed']])
  t.match(result.findings[0]?.text, /^this is Node \S+; fastify-observability 9\.0\.0 needs >=99$/)
  t.match(result.findings[1]?.text, 'fastify 4.29.1 is installed; fastify-observability needs ^5.10.0')
})

test('reports two copies of the OpenTelemetry API, and who asks for each', async (t) => {
  const api = '@opentelemetry/api'
  const old = installed(
    'old-driver',
    '1.0.0',
    { dependencies: { [api]: '^1.9.0' } },
    {
      node_modules: { '@opentelemetry': { api: installed(api, '1.9.0') } }
    }
  )
  const node_modules = { '@opentelemetry': { api: installed(api, '1.10.0') }, 'old-driver': old }
  const result = await diagnose(folderOf(t, { node_modules }, { dependencies: { [api]: '*', 'old-driver': '*' } }))
  t.same([result.code, faultsIn(result)], [1, ['copies']])
  const [{ text = '' } = {}] = result.findings.filter(({ check }) => check === 'copies')
  t.match(text, `2 copies of ${api} are installed: `)
  t.match(text, '1.9.0 in node_modules/old-driver/node_modules/@opentelemetry/api (for old-driver)')
  t.match(text, '1.10.0 in node_modules/@opentelemetry/api (for orders)')
})

test('says of a bundle what of it the preload cannot reach', async (t) => {
  const inside = '// node_modules/pg/lib/client.js\nvar __commonJS = 1'
  const result = await diagnose(folderOf(t, { [FILE]: serviceOf({ after: inside }) }), {}, FILE)
  const [{ text } = { text: '' }] = result.findings.filter(({ fault }) => fault === 'bundled')
  t.equal(text, 'the file looks bundled: the suite is outside; the preload cannot reach pg, which is inside')
})
