// Installs the packed packages as applications do that have dependencies of their own, with npm, pnpm and yarn 1: what is
// copied, what is heard of peers, what it weighs. Run after `pnpm build`, from the root.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify, stripVTControlCharacters } from 'node:util'
import { startCollector } from '../packages/testing/src/collector.ts'
import { check, conclude, pack, publishedFolders, type Tarball } from './tarballs.ts'

type Dependencies = Record<string, string>

interface Manager {
  name: string
  /** Writes what makes the packages that are not published yet come from their tarballs. */
  prepare(project: string, dependencies: Dependencies, tarballs: Dependencies): Promise<void>
  install: [command: string, ...args: string[]]
}

const README = await readFile('packages/observability/README.md', 'utf8')
const API = { '@opentelemetry/api': '^1.10.0' }
const SENTRY = { '@sentry/node': '^11.12.0' }
// Two copies of one of these do not see what the other does.
const SINGLE = ['@opentelemetry/api', '@opentelemetry/core', '@opentelemetry/instrumentation']
const MAX_PART_MB = 30
const HEAVY = /[\\/](@grpc|@sentry|@opentelemetry[\\/](?!api\b))/
const INSTALL_TIMEOUT_MS = 180_000
const USE_TIMEOUT_MS = 15_000

const work = await mkdtemp(join(tmpdir(), 'installs-'))
const execute = promisify(execFile)

async function run(command: string, args: string[], cwd: string, timeout = INSTALL_TIMEOUT_MS, env = process.env) {
  const limits = { cwd, timeout, env, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024 } as const
  const { stdout, stderr } = await execute(command, args, limits)
  return stripVTControlCharacters(stdout + stderr)
}

function manifest(dependencies: Dependencies, more: object = {}): string {
  return JSON.stringify({ name: 'consumer', version: '1.0.0', private: true, type: 'module', dependencies, ...more })
}

const npm: Manager = {
  name: 'npm',
  async prepare(project, dependencies, tarballs) {
    await writeFile(join(project, 'package.json'), manifest(dependencies, { overrides: tarballs }))
  },
  install: ['npm', 'install', '--no-audit', '--no-fund']
}
const pnpm: Manager = {
  name: 'pnpm',
  async prepare(project, dependencies, tarballs) {
    await writeFile(join(project, 'package.json'), manifest(dependencies))
    const [, name = '', isAllowed] = /`allowBuilds: \{ (\w+): (\w+) \}`/.exec(README) ?? []
    const settings = { allowBuilds: { [name]: isAllowed === 'true' }, overrides: tarballs }
    await writeFile(join(project, 'pnpm-workspace.yaml'), JSON.stringify(settings))
  },
  install: ['pnpm', 'install']
}
const yarn: Manager = {
  name: 'yarn 1',
  async prepare(project, dependencies, tarballs) {
    const [, resolutions = '{}'] = /`"resolutions": (\{.+?\})`/.exec(README) ?? []
    await writeFile(
      join(project, 'package.json'),
      manifest(dependencies, { resolutions: { ...tarballs, ...JSON.parse(resolutions) } })
    )
  },
  install: ['npx', '-y', 'yarn@1', 'install', '--non-interactive', '--no-progress']
}

/** A project with these dependencies, installed. Resolves with its folder and what the manager said. */
async function project(name: string, manager: Manager, dependencies: Dependencies, tarballs: Dependencies) {
  const folder = join(work, name)
  await mkdir(folder)
  await cp('.ci/consumer', folder, { recursive: true })
  const given = Object.keys(dependencies).map((name) => [name, tarballs[name] ?? dependencies[name]])
  const own = Object.fromEntries(Object.entries(tarballs).filter(([name]) => !(name in dependencies)))
  await manager.prepare(folder, Object.fromEntries(given), own)
  const [command, ...args] = manager.install
  return { folder, said: await run(command, args, folder) }
}

/** The folders of the packages that are installed, each once however many links lead to it. */
async function installed(folder: string, name = '*'): Promise<string[]> {
  const found = await run('find', ['.', '-path', `*/node_modules/${name}/package.json`], folder)
  const paths = found.split('\n').filter(Boolean)
  return [...new Set(await Promise.all(paths.map((path) => realpath(join(folder, path)))))]
}

async function megabytes(folder: string): Promise<number> {
  return Number((await run('du', ['-sk', 'node_modules'], folder)).split('\t')[0]) / 1024
}

function use(folder: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  return run(process.execPath, args, folder, USE_TIMEOUT_MS, { PATH: process.env.PATH, ...env })
}

/** The umbrella beside what an application has: one copy of what must be one, and no complaint. */
async function checkUmbrella(manager: Manager, title: string, beside: Dependencies, tarballs: Dependencies) {
  const dependencies = { fastify: '^5.12.0', 'fastify-observability': '*', ...beside }
  await check(`${manager.name}, ${title}: installs without a complaint, one copy each, and is seen`, async () => {
    const { folder, said } = await project(
      `${manager.name}-${title}`.replace(/\W+/g, '-'),
      manager,
      dependencies,
      tarballs
    )
    assert.doesNotMatch(said, /ERESOLVE|(?:unmet|incorrect|missing) peer.*(?:observability|opentelemetry)/i)
    for (const name of SINGLE) {
      const found = await installed(folder, name)
      assert.equal(found.length, 1, `${name}: ${found.join(', ')}`)
    }
    if (manager === npm) await run('npm', ['ls', '--all'], folder)
    assert.equal((await use(folder, ['one-copy.mjs'])).trim(), '')
    console.log(`  # ${manager.name}, ${title}: ${(await megabytes(folder)).toFixed(1)} MB`)
  })
}

/** One part alone: small, and without what it does not need. */
async function checkPart(part: string, tarballs: Dependencies): Promise<void> {
  const name = `@fastify-observability/${part}`
  await check(`${part} alone: at most ${MAX_PART_MB} MB, no SDK, no gRPC, no Sentry`, async () => {
    const { folder } = await project(part, npm, { fastify: '^5.12.0', ...API, [name]: '*' }, tarballs)
    const heavy = (await installed(folder)).filter((path) => HEAVY.test(path))
    assert.deepEqual(heavy, [])
    const size = await megabytes(folder)
    console.log(`  # ${part}: ${size.toFixed(1)} MB`)
    assert.ok(size <= MAX_PART_MB, `${size} MB`)
    const warnings = await use(folder, ['pushing.mjs', name])
    assert.match(warnings, /^\S+ (?:lines are )?not (?:sent|pushed) over OTLP: install @fastify-observability\/otlp$/m)
  })
  await check(`${part} with the delivery beside it: sends over OTLP`, async () => {
    const dependencies = { fastify: '^5.12.0', ...API, [name]: '*', '@fastify-observability/otlp': '*' }
    const { folder } = await project(`${part}-otlp`, npm, dependencies, tarballs)
    const collector = await startCollector()
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
    assert.equal((await use(folder, ['pushing.mjs', name], env)).trim(), '')
    assert.ok(collector.logs.length + collector.points.length > 0)
    await collector.close()
  })
}

/** Beside a Fastify below the peer range, which yarn 1 lets pass. */
async function checkRefused(fastify: string, tarballs: Dependencies): Promise<void> {
  await check(`beside Fastify ${fastify}: one sentence at registration`, async () => {
    const dependencies = { fastify, 'fastify-observability': '*', ...API }
    const { folder } = await project(`fastify-${fastify}`, yarn, dependencies, tarballs)
    const said = (await use(folder, ['refused.mjs'])).trim()
    assert.match(
      said,
      /^fastify-plugin: fastify-observability - expected '\^5\.\d+\.0' fastify version, '[\d.]+' is installed$/
    )
  })
}

const names = [...(await publishedFolders()).keys()]
let packed: Tarball[] = []
await check('packs', async () => {
  packed = await pack(names, work)
})
const tarballs = Object.fromEntries(packed.map(({ name, filename }) => [name, `file:${filename}`]))
for (const manager of [npm, pnpm, yarn]) {
  await checkUmbrella(manager, 'beside the API', API, tarballs)
  await checkUmbrella(manager, 'beside the API and Sentry', { ...API, ...SENTRY }, tarballs)
}
for (const part of ['logging', 'metrics']) await checkPart(part, tarballs)
for (const fastify of ['4', '5.9.0']) await checkRefused(fastify, tarballs)

await rm(work, { recursive: true })
conclude()
