// Runs the tests that Fastify and its plugins bring with their packages, plainly and with each configuration of the packed
// packages registered first in every instance, and compares them test by test. What may differ stands in `.ci/suites/kept.ts`.
// Run after `pnpm build`, from the root; all of it, or one suite, in one configuration: `node .ci/suites.ts @fastify/cors logging`.
import { execFile } from 'node:child_process'
import { cp, glob, mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { type Comparison, createComparison } from './suites/comparison.ts'
import type { Result } from './suites/reporter.ts'
import { createRunner, type Job, type Run } from './suites/runner.ts'
import { CONFIGURATIONS, type Configuration, type Mode, SUITES, type Suite } from './suites/tested.ts'
import { check, conclude, pack, publishedFolders } from './tarballs.ts'

// Files share a process, which takes most of their time to start. Those that differ run again, each in one of its own.
const FILES_AT_ONCE = 20
// Of files that still differ, one process at a time: what differs for good does so each time. A test of HTTP/2 that has to have
// its answer within 200 ms fails plainly too on a machine that is busy.
const FURTHER_TRIES = 8

const execute = promisify(execFile)

/** Installs the suites and what they import for development. Those under test leave node_modules, where Node's test runner does not look. */
async function install(project: string): Promise<void> {
  await cp('.ci/suites', project, { recursive: true })
  const tarballs = await pack((await publishedFolders()).keys(), project)
  const files = tarballs.map(({ filename }) => filename)
  // The suites of Fastify's plugins ask for several lines of the same plugins.
  await execute('npm', ['install', '--no-audit', '--no-fund', '--legacy-peer-deps', ...files], { cwd: project })
  await mkdir(join(project, 'tested'))
  for (const { name } of SUITES) {
    const installed = join(project, 'node_modules', name)
    const moved = join(project, 'tested', basename(name))
    await rename(installed, moved)
    await symlink(moved, installed)
  }
  // npm holds the two names for one, and Fastify asks for the capitals.
  await symlink('jsonstream', join(project, 'node_modules/JSONStream'))
}

function hasPassed(results: Result[]): boolean {
  return results.length > 0 && results.every(({ status }) => status !== 'fail')
}

async function testFiles({ files, without = {} }: Suite, folder: string): Promise<string[]> {
  const found: string[] = []
  for await (const file of glob(files, { cwd: folder })) if (!(file in without)) found.push(file)
  return found.sort()
}

function groupsOf(files: string[]): string[][] {
  return Array.from({ length: Math.ceil(files.length / FILES_AT_ONCE) }, (_, index) =>
    files.slice(index * FILES_AT_ONCE, (index + 1) * FILES_AT_ONCE)
  )
}

/** Runs the files in all modes, and those that differ again: tests that are late on a busy machine are no difference. */
async function compare(
  { alone = [] }: Suite,
  folder: string,
  files: string[],
  configurations: Configuration[],
  comparison: Comparison,
  run: Run
): Promise<void> {
  const isAlone = (file: string): boolean => alone.some((prefix) => file.startsWith(prefix))
  async function record(jobs: Job[], atOnce?: number): Promise<void> {
    comparison.record(jobs, await run(jobs, atOnce))
  }
  function jobAlone(file: string, mode: Mode): Job {
    return {
      folder,
      files: [file],
      mode,
      isEnded: comparison.isKept(file, mode),
      skip: comparison.endless(file, mode)
    }
  }

  const modes: Mode[] = ['plain', ...configurations]
  await record(
    modes.flatMap((mode): Job[] => {
      const apart = files.filter((file) => isAlone(file) || comparison.isKept(file, mode))
      const groups = groupsOf(files.filter((file) => !apart.includes(file)))
      const together = groups.map((group) => ({ folder, files: group, mode, isEnded: true, skip: [] }))
      return [...apart.map((file) => jobAlone(file, mode)), ...together]
    })
  )

  const isUnsettled = (file: string, configuration: Configuration): boolean =>
    comparison.further(file, configuration).length + comparison.gone(file, configuration).length > 0
  function differing(also: string[] = []): Job[] {
    return files.flatMap((file) => {
      const unsettled = configurations.filter((name) => also.includes(file) || isUnsettled(file, name))
      return unsettled.length === 0 ? [] : (['plain', ...unsettled] as const).map((mode) => jobAlone(file, mode))
    })
  }
  // What fails plainly, or has no result, tells nothing.
  await record(differing(files.filter((file) => !isAlone(file) && !hasPassed(comparison.plain(file)))))
  for (let tries = 0; tries < FURTHER_TRIES; tries++) await record(differing(), 1)
}

function printRow(suite: string, configuration: string, ...counts: (number | string)[]): void {
  const cells = counts.map((count) => String(count).padStart(7))
  console.log([suite.padEnd(22), configuration.padEnd(14), ...cells].join(''))
}

async function checkSuite(suite: Suite, project: string, configurations: Configuration[], run: Run): Promise<void> {
  const started = performance.now()
  const { name, without = {} } = suite
  const folder = join(project, 'tested', basename(name))
  const files = await testFiles(suite, folder)
  const comparison = createComparison(name)
  await compare(suite, folder, files, configurations, comparison, run)

  const plain = files.flatMap(comparison.plain)
  for (const configuration of configurations) {
    const further = files.flatMap((file) => comparison.further(file, configuration))
    const gone = files.flatMap((file) => comparison.gone(file, configuration))
    const differing = files.flatMap((file) => comparison.differences(file, configuration))
    printRow(name, configuration, plain.length, differing.length, differing.length - further.length)
    await check(`${name}: ${configuration} changes nothing but what is kept`, async () => {
      const lines = [
        ...further.map(({ file, test, text }) => `${file} > ${test}: ${text}`),
        ...gone.map(({ file, test }) => `${file} > ${test}: kept, and the same`)
      ]
      if (plain.length === 0) throw new Error('no test has run')
      if (lines.length > 0) throw new Error(lines.join('\n'))
    })
  }
  const failing = plain.filter(({ status }) => status === 'fail').map(({ file, test }) => `${file} > ${test}`)
  if (failing.length > 0) console.log(`# fails plainly: ${failing.join(', ')}`)
  for (const [file, reason] of Object.entries(without)) console.log(`# left out: ${file}, ${reason}`)
  console.log(`# ${name}: ${files.length} files, ${Math.round((performance.now() - started) / 1000)} s`)
}

const [onlySuite, onlyConfiguration] = process.argv.slice(2)
const configurations = CONFIGURATIONS.filter((name) => !onlyConfiguration || name === onlyConfiguration)
const project = await mkdtemp(join(tmpdir(), 'suites-'))
await install(project)
const run = await createRunner(project)
printRow('suite', 'configuration', 'tests', 'differ', 'kept')
for (const suite of SUITES) {
  if (!onlySuite || suite.name === onlySuite) await checkSuite(suite, project, configurations, run)
}
await rm(project, { recursive: true })
conclude()
