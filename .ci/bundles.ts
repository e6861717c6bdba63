// Bundles the packed packages with esbuild, tsup and rollup and runs the bundles where nothing is installed; then runs suites
// of an application in node:test, vitest and Jest, with fake clocks too, tsx, `node --watch` and PM2. Run after `pnpm build`.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { startCollector } from '../packages/testing/src/collector.ts'
import { startIngest } from '../packages/testing/src/ingest.ts'
import { freePorts } from '../packages/testing/src/ports.ts'
import { check, conclude, pack, publishedFolders } from './tarballs.ts'

const BUNDLES = ['esbuild', 'tsup', 'rollup'].flatMap((bundler) => [`${bundler}.mjs`, `${bundler}.cjs`])
const BUNDLERS = [
  'esbuild@0.28',
  'tsup@8',
  'rollup@4',
  '@rollup/plugin-commonjs@29',
  '@rollup/plugin-json@6',
  '@rollup/plugin-node-resolve@16',
  'typescript@5'
]
const RUNNERS = ['jest@30', 'vitest@5', 'sinon@22', 'tsx@4', 'pm2@7']
const PEERS = ['fastify@^5.12.0', '@opentelemetry/api@^1.10.0', '@sentry/node@^11.12.0', 'pino-pretty@^13.2.0', 'pg@8']
const TOOL_TIMEOUT_MS = 300_000
// For what hangs: on a busy machine a start takes ten seconds.
const BUNDLE_TIMEOUT_MS = 60_000
// The one line that Jest needs.
const JEST = { NODE_OPTIONS: '--experimental-vm-modules' }

const work = await mkdtemp(join(tmpdir(), 'bundles-'))
const project = join(work, 'project')
const execute = promisify(execFile)

/** Rejects on any exit code but 0, and when the process has not ended by itself in time. */
async function run(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
  cwd: string = project,
  timeout: number = TOOL_TIMEOUT_MS
) {
  return execute(command, args, { cwd, env, timeout, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 })
}

async function build(name: string, entry: string, bundlers: string, ...external: string[]): Promise<void> {
  await run(process.execPath, ['build.mjs', name, entry, bundlers, ...external])
}

/** Runs a bundle in a folder of its own, which holds nothing else but what is given. Resolves with all that it has sent. */
async function exercise(bundle: string, env: object = {}, installed = false, flags: string[] = []) {
  const folder = await mkdtemp(join(work, 'empty-'))
  const [, file = ''] = bundle.split('/')
  await copyFile(join(project, bundle), join(folder, file))
  if (installed) await symlink(join(project, 'node_modules'), join(folder, 'node_modules'))
  const collector = await startCollector()
  const ingest = await startIngest()
  try {
    const given = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, SENTRY_DSN: ingest.dsn, ...env }
    const { stdout, stderr } = await run(process.execPath, [...flags, file], given, folder, BUNDLE_TIMEOUT_MS)
    return { folder, stdout, stderr, collector, events: ingest.events }
  } finally {
    await collector.close()
    await ingest.close()
  }
}

type Run = Awaited<ReturnType<typeof exercise>>

function checkSignals({ stdout, stderr, collector, events }: Run): void {
  const answers = JSON.parse(stderr)
  assert.deepEqual(answers['/orders/7'], [200, 'bundle-1', '{"id":"7","requestId":"bundle-1"}'])
  assert.equal(answers['/broken'][0], 500)
  assert.match(
    answers['/metrics'][2],
    /^http_server_request_duration_seconds_count\{.*http_route="\/orders\/:id".*\} 1$/m
  )
  assert.match(answers['/health/ready'][2], /"disk":"ok"/)
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal(lines.filter(({ msg }) => msg === 'request completed').length, 2)
  const server = collector.spans.filter(({ kind }) => kind === 'SERVER')
  assert.deepEqual(server.map(({ name }) => name).sort(), ['GET /broken', 'GET /orders/:id'])
  assert.ok(collector.logs.every(({ scope }) => /^\d+\.\d+\.\d+/.test(scope.version)))
  assert.ok(collector.logs.length > 0 && collector.points.length > 0)
  assert.equal(events.length, 1)
}

await check('packs, and npm installs the tarballs beside bundlers and runners', async () => {
  const tarballs = await pack((await publishedFolders()).keys(), work)
  await mkdir(project)
  await cp('.ci/consumer/package.json', join(project, 'package.json'))
  await cp('.ci/bundles', project, { recursive: true })
  await cp('.ci/runners', project, { recursive: true })
  const files = tarballs.map(({ filename }) => filename)
  await run('npm', ['install', '--no-audit', '--no-fund', ...files, ...PEERS, ...BUNDLERS, ...RUNNERS])
})

await check('esbuild, tsup and rollup bundle a service with every part on', () =>
  build('all', 'app.mjs', BUNDLES.join())
)
for (const bundle of BUNDLES) {
  await check(`${bundle}: answers in an empty folder, and delivers spans, lines, points and the event`, async () => {
    checkSignals(await exercise(`all/${bundle}`))
  })
}

await check('esbuild bundles the service with the optional peers outside', () =>
  build('outside', 'app.mjs', 'esbuild', '@sentry/node', 'pino-pretty', '@opentelemetry/instrumentation-fastify')
)
await check('esbuild bundles the service with pino outside', () => build('pino', 'app.mjs', 'esbuild', 'pino'))
await check('esbuild bundles a service with pg outside', () => build('preloaded', 'preloaded.mjs', 'esbuild', 'pg'))
for (const file of ['esbuild.mjs', 'esbuild.cjs']) {
  await check(`${file}: an optional peer that is outside is found`, async () => {
    const { events, stdout } = await exercise(`outside/${file}`, { LOG_FORMAT: 'pino-pretty' }, true)
    assert.equal(events.length, 1)
    assert.match(stdout, /^\[.*\] INFO: request completed$/m)
  })
  await check(`${file}: one that is missing is named`, async () => {
    const { stdout } = await exercise(`outside/${file}`, { LOG_FORMAT: 'pino-pretty' })
    assert.match(stdout, /pino-pretty is not installed/)
    assert.match(stdout, /@sentry\/node is not installed, no events are sent: npm install @sentry\/node/)
    const failing = exercise(`outside/${file}`, { LIFECYCLE: '1' })
    await assert.rejects(failing, /npm install --legacy-peer-deps @opentelemetry\/instrumentation-fastify/)
  })
  await check(`${file}: lines go to a rotated file`, async () => {
    const { folder } = await exercise(`all/${file}`, { FILE: 'app.log' })
    assert.match(await readFile(join(folder, 'app.log'), 'utf8'), /"msg":"request completed"/)
  })
  await check(`${file}: a transport of pino's writes, with pino outside`, async () => {
    const { folder } = await exercise(`pino/${file}`, { TRANSPORT: 'app.log' }, true)
    assert.match(await readFile(join(folder, 'app.log'), 'utf8'), /"msg":"request completed"/)
  })
  await check(`${file}: the preload traces queries, with pg outside`, async () => {
    const preload = ['--import', 'fastify-observability/register']
    const { collector, stderr } = await exercise(`preloaded/${file}`, {}, true, preload)
    assert.equal(stderr, 'ECONNREFUSED')
    assert.ok(collector.spans.some(({ name }) => name === 'pg.connect'))
  })
}

const bin = join(project, 'node_modules/.bin')
await check('node:test: 50 apps and the fake clocks of node:test and sinon, no warning, and it ends', async () => {
  await run(process.execPath, ['--test', 'node.test.mjs'])
})
await check('vitest: 50 apps and its fake clock, no warning, and it ends', async () => {
  await run(join(bin, 'vitest'), ['run', 'vitest.test.mjs'])
})
await check('Jest: 50 apps and its fake clock from CommonJS, no warning, and it ends', async () => {
  const { stderr } = await run(join(bin, 'jest'), ['--testMatch', '**/jest.test.cjs'], { ...process.env, ...JEST })
  assert.doesNotMatch(stderr, /did not exit|open handle|force exited/)
})
for (const [title, command, args] of [
  ['tsx', join(bin, 'tsx'), ['service.mts']],
  ['node --watch', process.execPath, ['--watch', 'service.mts']]
] as const) {
  await check(`${title}: starts, answers, and ends by SIGTERM`, async () => {
    const child = spawn(command, args, { cwd: project, stdio: ['ignore', 'ignore', 'pipe'] })
    await once(child, 'spawn')
    const timer = setTimeout(() => child.kill('SIGKILL'), BUNDLE_TIMEOUT_MS)
    const ended = once(child, 'exit')
    for await (const row of createInterface(child.stderr)) if (row === 'found') break
    child.kill('SIGTERM')
    const [, signal] = await ended
    clearTimeout(timer)
    assert.notEqual(signal, 'SIGKILL')
  })
}

await check(
  'PM2: the recipe of docs/clusters.md is scraped, collected and reloaded without losing a line',
  async () => {
    const ports = await freePorts(2)
    await run(process.execPath, ['pm2.mjs', join(import.meta.dirname, '../docs/clusters.md'), ...ports.map(String)])
  }
)

await rm(work, { recursive: true })
conclude()
