// Packs the published packages, looks into the tarballs, and uses them as a service does that installed them with npm:
// from ESM, CommonJS and TypeScript, on the oldest and the current Node. Run after `pnpm build`, from the root.
import assert from 'node:assert/strict'
import { type ExecFileOptions, execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify, stripVTControlCharacters } from 'node:util'
import { startCollector } from '../packages/testing/src/collector.ts'
import { check, conclude, explain, pack, publishedFolders, type Tarball } from './tarballs.ts'

interface Manifest {
  name: string
  peerDependencies?: Record<string, string>
  peerDependenciesMeta?: Record<string, { optional?: boolean }>
}

interface Output {
  stdout: string
  stderr: string
}

const UMBRELLA = 'fastify-observability'
// No plugin.
const DELIVERY = '@fastify-observability/otlp'
// What `engines` promises.
const OLDEST_NODE = '22.19'
const ABANDONED = '@opentelemetry/instrumentation-fastify'
// The one that most machines still have.
const TOO_OLD_NODE = '20.20.2'
// What a README shows, and what bundlers take instead of a dependency.
const BESIDE: Record<string, string[]> = {
  '@fastify-observability/devtools': [
    'app.js',
    'chart.js',
    'format.js',
    'index.html',
    'live.js',
    'page.css',
    'requests.js',
    'story.js',
    'views.js'
  ].map((file) => `page/${file}`),
  '@fastify-observability/health': ['kubernetes.yaml'],
  '@fastify-observability/tracing': ['instrumentation-http.cjs', 'instrumentation-http.js']
}
const TOOL_TIMEOUT_MS = 180_000
// For what hangs: on a busy machine a start takes ten seconds.
const CONSUMER_TIMEOUT_MS = 60_000
const RESTORE_TIMEOUT_MS = 15_000
// Nothing listens on port 9, and no event is sent to it.
const OPTIONAL_PARTS_ON = { LOG_FORMAT: 'pino-pretty', SENTRY_DSN: 'http://key@127.0.0.1:9/1' }

const work = await mkdtemp(join(tmpdir(), 'packages-'))
const execute = promisify(execFile)

/** Rejects on any exit code but 0, and when the process has not ended by itself in time. */
async function run(command: string, args: string[], options: ExecFileOptions = {}): Promise<Output> {
  const limits = { timeout: TOOL_TIMEOUT_MS, killSignal: 'SIGKILL' } as const
  const { stdout, stderr } = await execute(command, args, { ...limits, ...options, encoding: 'utf8' })
  // Some tools colour what they write as soon as CI is set.
  return { stdout: stripVTControlCharacters(stdout), stderr }
}

async function manifestIn({ filename }: Tarball): Promise<string> {
  const { stdout } = await run('tar', ['-xzOf', filename, 'package/package.json'])
  return stdout
}

async function checkTarball(tarball: Tarball, folder: string): Promise<void> {
  const { name, filename } = tarball

  await check(
    `${name}: the tarball holds the build, README, LICENSE, package.json, what is named beside, and nothing else`,
    async () => {
      const { stdout } = await run('tar', ['-tzf', filename])
      const files = linesOf(stdout).map((path) => path.replace('package/', ''))
      const built = files.filter((file) => file.startsWith('dist/'))
      const rest = files.filter((file) => !built.includes(file)).sort()
      const shown = BESIDE[name] ?? []
      assert.deepEqual(rest, ['LICENSE', 'README.md', ...shown, 'package.json'].sort())
      assert.ok(
        built.includes('dist/index.js') && built.includes('dist/index.d.ts'),
        'no build: run `pnpm build` first'
      )
      const shared = /^dist\/chunks\//
      const stale = built.filter((file) => !shared.test(file) && !existsSync(join(folder, sourceOf(file))))
      assert.deepEqual(stale, [], 'left over from an earlier build')
    }
  )

  await check(`${name}: no workspace: or catalog: is left in package.json`, async () => {
    assert.doesNotMatch(await manifestIn(tarball), /"(workspace|catalog):/)
  })

  await check(`${name}: publint has nothing to say`, async () => {
    const { stdout } = await run('publint', ['run', filename, '--strict'])
    assert.match(stdout, /^All good!$/m)
  })

  await check(`${name}: attw has nothing to say`, async () => {
    // `cjs-resolves-to-esm` says that require() cannot load ESM. Every Node in `engines` can: the consumers below do.
    // The exit code tells: what the profile leaves out, such as Node 10, attw mentions all the same.
    await run('attw', [filename, '--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm'])
  })
}

function sourceOf(built: string): string {
  return built.replace('dist/', 'src/').replace(/(\.d)?\.(js|ts)(\.map)?$/, '.ts')
}

/** Packs by npm, as somebody does who has nothing else. */
async function packByNpm(tarball: Tarball, folder: string, destination: string): Promise<Tarball> {
  const { HOME, PATH } = process.env
  await run('npm', ['pack', '--pack-destination', destination], { cwd: folder, env: { HOME, PATH } })
  return { ...tarball, filename: join(destination, basename(tarball.filename)) }
}

async function unpack({ filename }: Tarball): Promise<string> {
  const folder = await mkdtemp(join(work, 'unpacked-'))
  await run('tar', ['-xzf', filename, '-C', folder])
  return folder
}

/** Waits until the checkout is as it was: what npm leaves behind when it fails is put back after its end. */
async function assertRestored(before: string): Promise<void> {
  const deadline = Date.now() + RESTORE_TIMEOUT_MS
  while (Date.now() < deadline && (await checkoutStatus()) !== before) await setTimeout(50)
  assert.equal(await checkoutStatus(), before)
}

async function checkoutStatus(): Promise<string> {
  const { stdout } = await run('git', ['status', '--porcelain', 'packages'])
  return stdout
}

/** Makes a project of its own with the tarballs and the umbrella's peers. */
async function createProject(project: string, tarballs: Tarball[], withOptionalPeers: boolean): Promise<void> {
  const umbrella = tarballs.find(({ name }) => name === UMBRELLA)
  assert.ok(umbrella)
  const { peerDependencies = {}, peerDependenciesMeta = {} }: Manifest = JSON.parse(await manifestIn(umbrella))
  const peers = Object.entries(peerDependencies)
    .filter(
      ([name]) =>
        name !== ABANDONED &&
        !tarballs.some((tarball) => tarball.name === name) &&
        (withOptionalPeers || !peerDependenciesMeta[name]?.optional)
    )
    .map(([name, range]) => `${name}@${range}`)
  await cp('.ci/consumer', project, { recursive: true })
  const packages = [...tarballs.map(({ filename }) => filename), ...peers, '@types/node@22']
  await run('npm', ['install', '--strict-peer-deps', ...packages], { cwd: project })
  // As its error message and the README have it: upstream's last release asks for an API before 1.10.
  const abandoned = `${ABANDONED}@${peerDependencies[ABANDONED]}`
  if (withOptionalPeers) await run('npm', ['install', '--legacy-peer-deps', abandoned], { cwd: project })
}

/** Runs a file of a project with nothing but the given environment. Any deprecation or other warning is a failure. */
async function use(node: string, project: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const { stdout, stderr } = await run(node, args, {
    cwd: project,
    env: { NODE_OPTIONS: '--throw-deprecation', ...env },
    timeout: CONSUMER_TIMEOUT_MS
  })
  assert.equal(stderr, '')
  return stdout
}

function linesOf(stdout: string): string[] {
  return stdout.trim().split('\n')
}

function logOf(stdout: string): Record<string, unknown>[] {
  return linesOf(stdout).map((line) => JSON.parse(line))
}

/** The server spans of a run, without what differs from run to run. */
async function serverSpans(node: string, project: string, args: string[]): Promise<unknown[]> {
  const collector = await startCollector()
  try {
    await use(node, project, args, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
    return collector.spans
      .filter(({ kind }) => kind === 'SERVER')
      .map(({ name, scope, status, attributes }) => ({
        name,
        scope,
        status,
        ...attributes,
        'server.port': undefined,
        'network.peer.port': undefined
      }))
  } finally {
    await collector.close()
  }
}

async function checkProject(title: string, project: string, node: string, names: string[]): Promise<void> {
  for (const extension of ['mjs', 'cjs']) {
    const how = `${title}, ${extension === 'mjs' ? 'import' : 'require()'}`
    await check(`${how}: the umbrella gives id, line, metrics and probes with zero options, and ends`, async () => {
      const log = logOf(await use(node, project, [`umbrella.${extension}`]))
      const [completed, ...more] = log.filter(({ msg }) => msg === 'request completed')
      assert.equal(completed?.request_id, 'consumer-1')
      assert.deepEqual(more, [])
    })
    await check(`${how}: with the preload and without, there is one server span and the same`, async () => {
      const service = `umbrella.${extension}`
      const plain = await serverSpans(node, project, [service])
      assert.equal(plain.length, 1)
      for (const flag of ['--import', '--require']) {
        for (const name of [UMBRELLA, '@fastify-observability/tracing']) {
          assert.deepEqual(await serverSpans(node, project, [flag, `${name}/register`, service]), plain)
        }
      }
    })
    for (const name of names.filter((name) => name !== UMBRELLA && name !== DELIVERY)) {
      await check(`${how}: ${name} works alone, and ends`, async () => {
        await use(node, project, [`part.${extension}`, name])
      })
    }
  }
}

/** What the installed command answers, as `npx` finds it: a program for the `node` on the PATH. */
async function askDoctor(node: string, project: string, env: Record<string, string> = {}): Promise<string> {
  const command = join(project, 'node_modules/.bin', UMBRELLA)
  const options = { cwd: project, env: { PATH: dirname(node), ...env } }
  return run(command, ['doctor'], options).then(({ stdout }) => stdout, explain)
}

const folders = await publishedFolders()
const names = [...folders.keys()]
let tarballs: Tarball[] = []
await check(`packs ${names.join(', ')}`, async () => {
  tarballs = await pack(names, work)
  assert.deepEqual(tarballs.map(({ name }) => name).sort(), names.sort())
})
for (const tarball of tarballs) await checkTarball(tarball, folders.get(tarball.name) ?? '')

const tarballsOfNpm: Tarball[] = []
const status = await checkoutStatus()
await mkdir(join(work, 'npm'))
for (const tarball of tarballs) {
  await check(
    `${tarball.name}: npm packs the same files, byte for byte, and leaves the checkout as it was`,
    async () => {
      const packed = await packByNpm(tarball, folders.get(tarball.name) ?? '', join(work, 'npm'))
      tarballsOfNpm.push(packed)
      await run('diff', ['-r', await unpack(tarball), await unpack(packed)])
      assert.equal(await checkoutStatus(), status)
    }
  )
}
await check('the checkout is as it was when npm could not write a tarball', async () => {
  const [tarball] = tarballs
  assert.ok(tarball)
  await assert.rejects(packByNpm(tarball, folders.get(tarball.name) ?? '', join(work, 'missing')), /ENOENT/)
  await assertRestored(status)
})

const nodes = { [OLDEST_NODE]: join(work, 'node_modules/node/bin/node'), [process.versions.node]: process.execPath }
await check(`npm installs Node ${OLDEST_NODE}`, async () => {
  await run('npm', ['install', '--prefix', work, `node@${OLDEST_NODE}`])
})
await check(`npm installs Node ${TOO_OLD_NODE}`, async () => {
  await run('npm', ['install', '--prefix', join(work, 'old'), `node@${TOO_OLD_NODE}`])
})
for (const withOptionalPeers of [false, true]) {
  const kind = withOptionalPeers
    ? 'with the optional peers, packed by pnpm'
    : 'without the optional peers, packed by npm'
  const project = join(work, withOptionalPeers ? 'full' : 'bare')
  await check(`${kind}: npm installs the tarballs with no peer conflict`, () =>
    createProject(project, withOptionalPeers ? tarballs : tarballsOfNpm, withOptionalPeers)
  )
  await check(`${kind}: the declarations compile, ours and all that they import`, async () => {
    await run('tsc', ['-p', project])
  })
  await check(`Node ${TOO_OLD_NODE}, ${kind}: registration fails with one sentence`, async () => {
    const node = join(work, 'old/node_modules/node/bin/node')
    const failure = await execute(node, [join(project, 'umbrella.mjs')], { cwd: project }).then(
      () => assert.fail('it started'),
      (error: unknown) => explain(error)
    )
    const sentences = failure.match(/^Error: .*Node \S+ or later is required, this is \S+$/gm)
    assert.equal(sentences?.length, 1, failure)
    assert.match(await askDoctor(node, project), /this is Node 20\S+; fastify-observability \S+ needs >=22\.19/)
  })
  for (const [version, node] of Object.entries(nodes)) {
    const title = `Node ${version}, ${kind}`
    await checkProject(title, project, node, names)
    await check(`${title}: the doctor sends a test span, and finds nothing wrong but a closed port`, async () => {
      const collector = await startCollector()
      const OTEL_EXPORTER_OTLP_ENDPOINT = collector.url
      assert.match(await askDoctor(node, project, { OTEL_EXPORTER_OTLP_ENDPOINT }), /\nnothing is wrong\n$/)
      assert.equal(collector.spans.length, 1)
      await collector.close()
      const closed = await askDoctor(node, project, { OTEL_EXPORTER_OTLP_ENDPOINT })
      assert.match(closed, /nothing listens there\n(.*\n)+1 wrong\n/)
    })
    await check(`${title}: a DSN and pretty lines do what they can, and say what they cannot`, async () => {
      const stdout = await use(node, project, ['umbrella.mjs'], OPTIONAL_PARTS_ON)
      if (withOptionalPeers) return assert.match(stdout, /INFO: request completed$/m)
      const warnings = stdout.split('\n').filter((row) => / WARN /.test(row))
      assert.match(String(warnings[0]), /pino-pretty is not installed/)
      assert.match(String(warnings[1]), /@sentry\/node is not installed/)
    })
  }
}

await rm(work, { recursive: true })
conclude()
