// Publishes everything to a registry on this machine, and installs it from there as a stranger does, with npm, pnpm, yarn 1
// and bun: what is said and copied, whether it compiles, serves and is tested by the kit, what it weighs. Run after `pnpm build`, from the root.
import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { startCollector } from '../packages/testing/src/collector.ts'
import { bun, type Manager, npm, pnpm, yarn } from './registry/managers.ts'
import { run, startRegistry } from './registry/server.ts'
import { check, conclude, publishedFolders } from './tarballs.ts'

interface Project {
  folder: string
  said: string
}

const UMBRELLA = 'fastify-observability'
const DELIVERY = '@fastify-observability/otlp'
const TYPES = '@types/node@24'
const FASTIFY = 'fastify@^5.12.0'
const API = '@opentelemetry/api@^1.10.0'
const SENTRY = '@sentry/node@^11.12.0'
const NEST = ['common', 'core', 'platform-fastify'].map((part) => `@nestjs/${part}`)
const NEST_BESIDE = ['reflect-metadata@0.2', 'rxjs@7']
// Two copies of one of these do not see what the other does.
const SINGLE = ['fastify', '@opentelemetry/api', '@opentelemetry/core', '@opentelemetry/instrumentation']
const COMPLAINTS =
  /ERESOLVE|EBADENGINE|deprecated|(?:warn|error|peer).*(?:observability|opentelemetry)|(?:unmet|incorrect|missing) peer/i
// What yarn 1 says of the resolution that the README asks for.
const EXPECTED = /^warning Resolution field "@opentelemetry\/core@.*$/gm
// What comes with a part only where it is asked for, and the parts that ask for it by themselves.
const HEAVY = /[\\/](@grpc|@sentry|@datadog|@opentelemetry[\\/](?!api\b))/
const HEAVY_PARTS = [UMBRELLA, '@fastify-observability/tracing', DELIVERY]
const WITHOUT_OTLP = /^\S+ (?:lines are )?not (?:sent|pushed) over OTLP: install @fastify-observability\/otlp$/m
// Those of the workspace, which weigh nothing.
const NODE_TYPES = resolve('node_modules/@types')
// For what hangs: on a busy machine a start takes ten seconds.
const USE_TIMEOUT_MS = 60_000

const work = await mkdtemp(join(tmpdir(), 'registry-'))
const registry = await startRegistry(join(work, 'registry'))

/** A project with these packages, added as a user does. */
async function project(manager: Manager, title: string, packages: string[]): Promise<Project> {
  const folder = join(work, `${manager.name}-${title}`.replace(/\W+/g, '-'))
  await mkdir(folder)
  await cp('.ci/consumer', folder, { recursive: true })
  await manager.prepare(folder)
  return { folder, said: await add(manager, folder, packages) }
}

async function add({ add, peers }: Manager, cwd: string, packages: string[]): Promise<string> {
  const [command, ...args] = add
  return await run(command, [...args, ...packages, ...peers], { cwd, env: registry.env })
}

/** The folders of the packages that are installed, each once however many links lead to it. */
async function installed(cwd: string, name = '*'): Promise<string[]> {
  const found = await run('find', ['.', '-path', `*/node_modules/${name}/package.json`], { cwd })
  const paths = found.split('\n').filter(Boolean)
  return [...new Set(await Promise.all(paths.map((path) => realpath(join(cwd, path)))))]
}

async function megabytes(cwd: string): Promise<number> {
  return Number((await run('du', ['-sk', 'node_modules'], { cwd })).split('\t')[0]) / 1024
}

async function compile(cwd: string, ...args: string[]): Promise<void> {
  await run('tsc', args, { cwd })
}

/** Runs a file with nothing but the given environment. */
async function use(cwd: string, args: string[], more: NodeJS.ProcessEnv = {}): Promise<string> {
  return await run(process.execPath, args, { cwd, timeout: USE_TIMEOUT_MS, env: { PATH: process.env.PATH, ...more } })
}

/** Its app is tested by the kit. */
async function testByKit(cwd: string, ...args: string[]): Promise<void> {
  assert.match(await use(cwd, ['kit.mjs', ...args]), /pass [12]$/m)
}

async function assertOneCopyEach(folder: string): Promise<void> {
  for (const name of SINGLE) {
    const found = await installed(folder, name)
    assert.equal(found.length, 1, `${name}: ${found.join(', ')}`)
  }
}

async function checkService(manager: Manager): Promise<void> {
  const title = `${manager.name}, by the README`
  let folder = ''
  await check(`${title}: installs without a complaint, one copy each`, async () => {
    const made = await project(manager, 'service', [FASTIFY, UMBRELLA, TYPES])
    assert.doesNotMatch(made.said.replace(EXPECTED, ''), COMPLAINTS)
    folder = made.folder
    await assertOneCopyEach(folder)
    console.log(`  # ${title}: ${(await megabytes(folder)).toFixed(1)} MB`)
  })
  await check(`${title}: strict TypeScript compiles, with the declarations, for Node and for bundlers`, async () => {
    await compile(folder, '-p', 'tsconfig.service.json')
    await compile(folder, '-p', 'tsconfig.service.json', '--module', 'preserve', '--moduleResolution', 'bundler')
  })
  for (const file of ['service.ts', 'umbrella.cjs']) {
    await check(`${title}: ${file} starts, answers and ends`, async () => {
      assert.match(await use(folder, [file]), /"msg":"request completed"/)
    })
    await check(`${title}: ${file} is tested by the kit`, () => testByKit(folder, `./${file}`))
  }
}

/** Beside what an application has of its own: seen through its copy of the API, and no complaint. */
async function checkBeside(manager: Manager): Promise<void> {
  let folder = ''
  await check(`${manager.name}, beside the API and Sentry: no complaint, one copy each, and is seen`, async () => {
    const made = await project(manager, 'beside', [FASTIFY, UMBRELLA, API, SENTRY])
    assert.doesNotMatch(made.said.replace(EXPECTED, ''), COMPLAINTS)
    folder = made.folder
    await assertOneCopyEach(folder)
    if (manager === npm) await run('npm', ['ls', '--all'], { cwd: folder, env: registry.env })
    assert.equal((await use(folder, ['one-copy.mjs'])).trim(), '')
    console.log(`  # ${manager.name}, beside the API and Sentry: ${(await megabytes(folder)).toFixed(1)} MB`)
  })
  await check(`${manager.name}, beside the API and Sentry: is tested by the kit`, () =>
    testByKit(folder, './umbrella.cjs')
  )
}

async function checkNest(manager: Manager): Promise<void> {
  let folder = ''
  await check(`${manager.name}, NestJS: no complaint, one copy each, compiles, answers and ends`, async () => {
    // Its Fastify is a peer of the suite, which yarn 1 does not look for below NestJS.
    const pinned = manager === yarn ? [`fastify@${await fastifyOfNest()}`] : []
    const made = await project(manager, 'nest', [...NEST, ...NEST_BESIDE, ...pinned, UMBRELLA, TYPES])
    assert.doesNotMatch(made.said.replace(EXPECTED, ''), COMPLAINTS)
    folder = made.folder
    await assertOneCopyEach(folder)
    await compile(folder, '-p', 'tsconfig.nest.json')
    assert.match(await use(folder, ['built/nest.js']), /"msg":"request completed"/)
  })
  await check(`${manager.name}, NestJS: is tested by the kit`, () => testByKit(folder, './built/nest.js'))
}

async function fastifyOfNest(): Promise<string> {
  const args = ['view', '@nestjs/platform-fastify', 'dependencies.fastify']
  return (await run('npm', args, { cwd: work, env: registry.env })).trim()
}

async function checkAlone(manager: Manager, part: string): Promise<void> {
  let folder = ''
  await check(`${manager.name}, ${part} alone: no complaint, starts, answers and ends`, async () => {
    const made = await project(manager, 'alone', [FASTIFY, part])
    assert.doesNotMatch(made.said.replace(EXPECTED, ''), COMPLAINTS)
    folder = made.folder
    await use(folder, ['part.mjs', part])
    await use(folder, ['part.cjs', part])
  })
  await check(`${manager.name}, ${part} alone: is tested by the kit, which the umbrella brings`, async () => {
    await add(manager, folder, [UMBRELLA])
    await testByKit(folder, './part.mjs', part)
  })
}

/** One package alone: what comes with it, what that weighs, and that its declarations need nothing else. */
async function checkTree(part: string, sizes: Map<string, number>): Promise<void> {
  await check(`${part}: compiles alone, brings only what it needs, and weighs what the README says`, async () => {
    const { folder } = await project(bun, part, [FASTIFY, part])
    const paths = await installed(folder)
    if (!HEAVY_PARTS.includes(part))
      assert.deepEqual(
        paths.filter((path) => HEAVY.test(path)),
        []
      )
    assert.deepEqual(
      paths.filter((path) => /[\\/]@(sentry|datadog)[\\/]/.test(path)),
      []
    )
    await writeFile(join(folder, 'alone.ts'), `export * from '${part}'\n`)
    await writeFile(
      join(folder, 'tsconfig.alone.json'),
      JSON.stringify({ extends: './tsconfig.service.json', files: ['alone.ts'] })
    )
    await compile(folder, '-p', 'tsconfig.alone.json', '--typeRoots', NODE_TYPES)
    const size = await megabytes(folder)
    console.log(`  # ${part}: ${size.toFixed(1)} MB`)
    const stated = sizes.get(part)
    assert.ok(stated !== undefined && Math.abs(size - stated) <= 1 + stated / 10, `the README says ${stated} MB`)
  })
}

async function checkDelivery(part: string): Promise<void> {
  await check(`${part}: names the package that it sends with over OTLP, and sends with it`, async () => {
    const alone = await project(bun, `${part}-without`, [FASTIFY, API, part])
    assert.match(await use(alone.folder, ['pushing.mjs', part]), WITHOUT_OTLP)
    const both = await project(bun, `${part}-with`, [FASTIFY, API, part, DELIVERY])
    const collector = await startCollector()
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }
    assert.equal((await use(both.folder, ['pushing.mjs', part], env)).trim(), '')
    assert.ok(collector.logs.length + collector.points.length > 0)
    await collector.close()
  })
}

/** Beside a Fastify below the peer range, which yarn 1 lets pass. */
async function checkRefused(fastify: string): Promise<void> {
  await check(`beside Fastify ${fastify}: one sentence at registration`, async () => {
    const { folder } = await project(yarn, `fastify-${fastify}`, [`fastify@${fastify}`, UMBRELLA])
    assert.match(
      (await use(folder, ['refused.mjs'])).trim(),
      /^fastify-plugin: fastify-observability - expected '\^5\.\d+\.0' fastify version, '[\d.]+' is installed$/
    )
  })
}

/** What the table of the root's README says of each package. */
async function statedSizes(): Promise<Map<string, number>> {
  const rows = (await readFile('README.md', 'utf8')).matchAll(/^\| \[(\S+)\]\(packages\/\S+\) \|.*\| (\d+) MB \|$/gm)
  return new Map([...rows].map(([, name = '', size]) => [name, Number(size)]))
}

const names = [...(await publishedFolders()).keys()]
try {
  await check('publishes everything', async () => {
    const args = ['-r', 'publish', '--no-git-checks', '--registry', registry.url]
    const said = await run('pnpm', args, { cwd: process.cwd(), env: registry.env })
    for (const name of names) assert.match(said, new RegExp(`Published package ${name}@`))
  })
  const sizes = await statedSizes()
  for (const name of names) await checkTree(name, sizes)
  for (const manager of [npm, pnpm, yarn, bun]) {
    await checkService(manager)
    await checkBeside(manager)
    await checkNest(manager)
    await checkAlone(manager, '@fastify-observability/metrics')
  }
  for (const part of ['@fastify-observability/logging', '@fastify-observability/metrics']) await checkDelivery(part)
  for (const fastify of ['4', '5.9.0']) await checkRefused(fastify)
} finally {
  await registry.close()
  await rm(work, { recursive: true })
}
conclude()
