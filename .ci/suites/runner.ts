import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { Result } from './reporter.ts'
import type { Mode } from './tested.ts'

/** A process of its own: test files of one suite in one mode. */
export interface Job {
  folder: string
  files: string[]
  mode: Mode
  /** Whether the process is ended after the last test: one that fails may leave its server open. */
  isEnded: boolean
  /** The tests that are not run. */
  skip: string[]
}

/** What became of the tests, and whether the process has ended by itself. */
export interface Outcome {
  results: Result[]
  ended: boolean
}

/** @param atOnce how many processes at a time. By default as many as suit tests that wait most of their time. */
export type Run = (jobs: Job[], atOnce?: number) => Promise<Outcome[]>

// The slowest files wait for 10 seconds.
const LIMIT_MS = 45_000
const PROCESSES = 2 * availableParallelism()
// What stands for something else in an expression.
const SPECIAL = /[$()*+./?[\\\]^{|}]/g

/** Runs jobs in the order given, several at a time, with what `project` has installed. */
export async function createRunner(project: string): Promise<Run> {
  const reports = join(project, 'reports')
  await mkdir(reports)
  let count = 0
  return async (jobs, atOnce = PROCESSES) => {
    const outcomes: Outcome[] = []
    const left = jobs.entries()
    async function take(): Promise<void> {
      for (const [index, job] of left) outcomes[index] = await runJob(job, project, join(reports, `${count++}.jsonl`))
    }
    await Promise.all(Array.from({ length: atOnce }, take))
    return outcomes
  }
}

async function runJob(job: Job, project: string, report: string): Promise<Outcome> {
  const args = ['--require', join(project, 'register.cjs'), '--test', '--test-isolation=none']
  args.push('--test-reporter', join(project, 'reporter.ts'), '--test-reporter-destination', report)
  if (job.isEnded) args.push('--test-force-exit')
  for (const test of job.skip) args.push('--test-skip-pattern', `/^${test.replace(SPECIAL, '\\$&')}$/`)
  const child = spawn(process.execPath, [...args, ...job.files], {
    cwd: job.folder,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      MODE: job.mode,
      NODE_COMPILE_CACHE: join(project, 'compiled'),
      // An assertion that compares two loggers describes all that they hold.
      NODE_OPTIONS: '--max-old-space-size=1024'
    },
    stdio: 'ignore',
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL'
  })
  const [, signal] = await once(child, 'exit')
  const lines = await readFile(report, 'utf8').catch(() => '')
  return { results: lines.split('\n').flatMap((line) => (line.endsWith('}') ? JSON.parse(line) : [])), ended: !signal }
}
