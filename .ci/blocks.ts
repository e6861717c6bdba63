// Takes every fenced block of the README files and of `docs`, installs the packed packages as their readers do, and follows each page:
// TypeScript is type-checked, scripts are run and asked, shell commands are run in the page's folder, JSON and YAML are read.
// A comment above a block says what it needs, or why it is not run: `blocks/page.ts`. Run after `pnpm build`, from the root; with a
// part of a page's path for some.
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { glob, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { extname, join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify, stripVTControlCharacters } from 'node:util'
import { freePorts } from '../packages/testing/src/ports.ts'
import { type Block, blocksOf, folderOf } from './blocks/page.ts'
import { FILES, PARTS } from './blocks/parts.ts'
import { check, conclude, pack, publishedFolders } from './tarballs.ts'

interface Page {
  path: string
  folder: string
  blocks: Block[]
  port: number
}

// Its blocks are for test runners, which `bundles.ts` starts.
const ELSEWHERE = ['docs/testing.md']
const PAGES = [
  'README.md',
  'docs/*.md',
  'packages/*/README.md',
  'docker/README.md',
  'examples/*/README.md',
  'benchmarks/README.md'
]
// What the pages use beside ours.
const PACKAGES = [
  'fastify@^5.12.0',
  '@opentelemetry/api@>=1.10.0 <1.11.0',
  '@opentelemetry/sdk-node@0.300.0',
  '@sentry/node@^11.12.0',
  '@datadog/pprof@^5.20.0',
  'pino@^10.4.0',
  'pg@8',
  '@types/pg@8',
  '@types/node@24',
  'bullmq@6',
  'ioredis@6',
  '@fastify/schedule@7',
  '@fastify/aws-lambda@6',
  'toad-scheduler@4',
  'esbuild@0.28',
  'yaml@2'
]
const TSCONFIG = {
  include: ['*/L*.ts'],
  compilerOptions: {
    target: 'es2024',
    module: 'nodenext',
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    verbatimModuleSyntax: true,
    erasableSyntaxOnly: true,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
    noEmit: true
  }
}
const TOOL_TIMEOUT_MS = 180_000
const BLOCK_TIMEOUT_MS = 120_000
const END = '\nawait Reflect.get(globalThis, "endOfBlock")()\n'
// The ports that pages name, and what they say to do once a minute.
const PORTS = /\b(3000|8000|9100)\b/g
const SOONER: [string, string][] = [
  ['60_000', '20'],
  ['minutes: 1', 'milliseconds: 20']
]
// Differs from one run to the next: ids, times and durations.
const VOLATILE = /[\da-f-]{16,}|\d{4}-\d\d-\d\dT[\d:.]+Z|\d+\.\d+/g

const run = promisify(execFile)
const work = await mkdtemp(join(tmpdir(), 'blocks-'))
// An installed one of an earlier run, for who writes a page; what has changed in the packages since is not in it.
const kept = process.env.BLOCKS_PROJECT
const project = kept ?? join(work, 'project')
const helpers = resolve('.ci/blocks')
const only = process.argv[2] ?? ''
const [redisPort = 0] = await freePorts(1)
let redis: ChildProcess | undefined

async function readPages(): Promise<Page[]> {
  const paths: string[] = []
  for await (const path of glob(PAGES)) if (path.includes(only) && !ELSEWHERE.includes(path)) paths.push(path)
  paths.sort()
  const ports = await freePorts(paths.length)
  return Promise.all(
    paths.map(async (path, index) => {
      const blocks = blocksOf(path, await readFile(path, 'utf8'))
      return { path, folder: join(project, folderOf(path)), blocks, port: ports[index] ?? 0 }
    })
  )
}

const isScript = ({ language }: Block): boolean => ['ts', 'js', 'cjs'].includes(language)

/** The file that a block is run as. */
function fileOf({ name, line, language }: Block): string {
  return `L${line}${name ? extname(name) : `.${language}`}`
}

function partsOf({ place, needs }: Block): string {
  return needs.with.map((name) => `${PARTS[name] ?? assert.fail(`${place}: parts.ts has no ${name}`)}\n`).join('')
}

async function writePage({ folder, blocks }: Page): Promise<void> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  for (const block of blocks.filter(isScript)) {
    if (block.needs.from) continue
    const code = SOONER.reduce((code, [from, to]) => code.replaceAll(from, to), block.code)
      .replace(PORTS, '0')
      .replaceAll('6379', String(redisPort))
    const end = block.needs.ends || extname(fileOf(block)) === '.cjs' ? '' : END
    await writeFile(join(folder, fileOf(block)), `${partsOf(block)}${code}${end}`)
  }
}

/** What the compiler says of each file, by page and block. */
async function typeErrors(): Promise<string[]> {
  try {
    await run('tsc', ['-p', project], { timeout: TOOL_TIMEOUT_MS, maxBuffer: 1 << 24 })
    return []
  } catch (error) {
    const output = String(Reflect.get(Object(error), 'stdout'))
    return output.split('\n').filter((row) => row !== '')
  }
}

function environmentOf({ needs }: Block): NodeJS.ProcessEnv {
  return {
    PATH: `${join(project, 'node_modules', '.bin')}:${process.env.PATH}`,
    HOME: process.env.HOME,
    BLOCKS: helpers,
    BLOCK_FAILS: needs.fails.join(','),
    ...needs.env
  }
}

/** Runs a command in a page's folder, and kills it when its time is up. Resolves with all that it has written. */
async function execute({ folder }: Page, block: Block, command: string, args: string[]): Promise<string> {
  const child = spawn(command, args, {
    cwd: folder,
    env: environmentOf(block),
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: BLOCK_TIMEOUT_MS,
    killSignal: 'SIGKILL'
  })
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const output = stripVTControlCharacters(`${stdout}${stderr}`)
  assert.equal(child.exitCode, 0, `it ended with ${child.exitCode ?? child.signalCode}:\n${output}`)
  return output
}

function checkOutput({ needs: { prints } }: Block, output: string): void {
  if (prints === undefined) return
  const lines = output.split('\n')
  if (!prints.startsWith('{')) {
    assert.match(output, new RegExp(prints))
    return
  }
  const wanted = Object.entries(JSON.parse(prints))
  const fits = lines.some((line) => {
    if (!line.startsWith('{')) return false
    const seen = JSON.parse(line)
    return wanted.every(([key, value]) => seen[key] === value)
  })
  assert.ok(fits, `no line is ${prints}:\n${output}`)
}

async function startRedis(): Promise<void> {
  if (redis) return
  redis = spawn('redis-server', ['--port', String(redisPort), '--bind', '127.0.0.1', '--save', ''], { stdio: 'ignore' })
  await listening(redisPort)
}

/** Resolves once somebody listens there. */
async function listening(port: number): Promise<void> {
  for (const late = AbortSignal.timeout(BLOCK_TIMEOUT_MS); ; await sleep(50, undefined, { signal: late })) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      // Not yet.
    } finally {
      socket.destroy()
    }
  }
}

async function runScript(page: Page, block: Block): Promise<void> {
  if (block.needs.needs === 'redis') await startRedis()
  const args = [join(page.folder, fileOf(block))]
  const output = await execute(page, block, process.execPath, ['--import', join(helpers, 'end.mjs'), ...args])
  checkOutput(block, output)
}

/** Where each line of the block stands in the file, in the same order: that runs in a program of its own. */
async function compareToSource({ code, needs }: Block): Promise<void> {
  const lines = (await readFile(needs.from ?? '', 'utf8')).split('\n').map((line) => line.trim())
  let at = 0
  for (const line of code.split('\n').map((line) => line.trim())) {
    const found = lines.indexOf(line, at)
    assert.ok(line === '' || found >= 0, `${needs.from} has no "${line}" there`)
    if (line !== '') at = found + 1
  }
}

async function runShell(page: Page, block: Block, running: ChildProcess[]): Promise<void> {
  const code = block.code.replace(PORTS, String(page.port))
  const script = join(page.folder, `L${block.line}.sh`)
  await writeFile(script, `. "$BLOCKS/shell.sh"\n${code}`)
  if (block.needs.starts) await start(page, block, running, 'bash', script)
  else checkOutput(block, await execute(page, block, 'bash', [script]))
}

/** Starts what serves until the page ends. Resolves once it listens. */
async function start(page: Page, block: Block, running: ChildProcess[], command: string, file: string): Promise<void> {
  const env = environmentOf(block)
  const child = spawn(command, [file], { cwd: page.folder, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  running.push(child)
  const ended = Promise.all([text(child.stdout), text(child.stderr)])
  const late = ended.then((words) => assert.fail(`it has ended: ${words.join('')}`))
  await Promise.race([listening(page.port), late])
  late.catch(() => undefined)
}

/** Runs what stands after `$ `, and compares what is shown below it, but for what differs each time. */
async function runTranscript(page: Page, block: Block): Promise<void> {
  const rows = block.code.trimEnd().split('\n')
  const commands = rows.flatMap((row) => (row.startsWith('$ ') ? [row.slice(2)] : []))
  const script = { ...block, code: commands.join('\n'), needs: { ...block.needs, prints: undefined } }
  const file = join(page.folder, `L${block.line}.sh`)
  await writeFile(file, `. "$BLOCKS/shell.sh"\n${script.code.replace(PORTS, String(page.port))}`)
  const output = (await execute(page, script, 'bash', [file])).replace(VOLATILE, '0')
  for (const row of rows.filter((row) => !row.startsWith('$ '))) {
    const [start = '', end = ''] = row.replace(VOLATILE, '0').split('…')
    assert.ok(output.includes(start) && output.includes(end), `nothing like "${row}" in\n${output}`)
  }
}

async function readYaml(code: string): Promise<void> {
  const { parseAllDocuments } = await import(join(project, 'node_modules', 'yaml', 'dist', 'index.js'))
  for (const { errors } of parseAllDocuments(code)) assert.deepEqual(errors, [])
}

async function testNginx(page: Page, block: Block): Promise<void> {
  const file = join(page.folder, `L${block.line}.conf`)
  await writeFile(file, `pid ${page.folder}/nginx.pid;\nevents {}\nhttp {\naccess_log off;\n${block.code}\n}`)
  await execute(page, block, 'nginx', ['-t', '-q', '-e', 'stderr', '-c', file])
}

async function follow(page: Page, block: Block, running: ChildProcess[]): Promise<void> {
  const { language, name, code, needs } = block
  if (name) await writeFile(join(page.folder, name), code.replace(PORTS, String(page.port)))
  for (const file of [...needs.files, needs.service ?? []].flat()) {
    await writeFile(join(page.folder, file), (FILES[file] ?? '').replace(PORTS, String(page.port)))
  }
  if (needs.service) await start(page, block, running, process.execPath, join(page.folder, needs.service))
  if (needs.from) await compareToSource(block)
  else if (isScript(block)) await runScript(page, block)
  else if (language === 'sh') await runShell(page, block, running)
  else if (language === 'console') await runTranscript(page, block)
  else if (language === 'json') assert.ok(JSON.parse(code))
  else if (language === 'yaml') await readYaml(code)
  else if (language === 'nginx') await testNginx(page, block)
  else assert.fail(`nobody knows how to run ${language || 'a block without a language'}`)
}

async function followPage(page: Page): Promise<void> {
  const running: ChildProcess[] = []
  // Without a language it is a drawing.
  for (const block of page.blocks.filter(({ language }) => language !== '')) {
    if (block.unrun) console.log(`# ${block.place}: not run, ${block.unrun}`)
    else await check(`${block.place}: the ${block.language} block runs`, () => follow(page, block, running))
  }
  for (const { pid } of running) {
    try {
      if (pid) process.kill(-pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
  }
}

const pages = await readPages()
await check('packs the packages and installs them with npm', async () => {
  if (kept && existsSync(kept)) return
  const tarballs = (await pack((await publishedFolders()).keys(), work)).map(({ filename }) => filename)
  await mkdir(project)
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'blocks', private: true, type: 'module' }))
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify(TSCONFIG))
  const args = ['install', '--no-audit', '--no-fund', '--prefer-offline', ...tarballs, ...PACKAGES]
  await run('npm', args, { cwd: project, timeout: TOOL_TIMEOUT_MS })
})
await Promise.all(pages.map(writePage))
const errors = await typeErrors()
for (const { path, folder, blocks } of pages) {
  for (const block of blocks.filter(({ language, needs }) => language === 'ts' && !needs.from)) {
    await check(`${block.place}: the types are right`, async () => {
      const file = join(folder.slice(project.length + 1), fileOf(block))
      const own = errors.filter((row) => row.includes(`${file}(`))
      assert.deepEqual(own, [], `${path}\n${own.join('\n')}`)
    })
  }
}
await check('the compiler says nothing of anything else', async () => {
  assert.deepEqual(
    errors.filter((row) => !/L\d+\.ts\(|^ /.test(row)),
    []
  )
})
const waiting = [...pages]
async function followNext(): Promise<void> {
  for (let page = waiting.shift(); page; page = waiting.shift()) await followPage(page)
}
// A service starts while another one is asked.
await Promise.all([followNext(), followNext()])
redis?.kill()
await rm(work, { recursive: true })
conclude()
