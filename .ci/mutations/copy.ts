import { execFile, spawn } from 'node:child_process'
import { cp, glob, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Guard } from './places.ts'

/** What a test file has said. */
interface Verdict {
  passed: boolean
  /** The test that failed, or what else ended it. */
  by: string
  /** What it has printed. */
  output: string
}

/** A copy of the tree, with the dependencies of the checkout. */
export interface Copy {
  /** Does the work while the guard is not in the file. */
  without<Result>(file: string, guard: Pick<Guard, 'find' | 'replace'>, work: () => Promise<Result>): Promise<Result>
  /** Runs a test file up to its first failure. */
  test(file: string): Promise<Verdict>
  remove(): Promise<void>
}

// For what hangs. The slowest file takes ten seconds, and five times that beside a compiler.
const LIMIT_MS = 180_000

const execute = promisify(execFile)

export async function copyTree(): Promise<Copy> {
  const folder = await mkdtemp(join(tmpdir(), 'mutations-'))
  const { stdout } = await execute('git', ['ls-files', '-z', '-co', '--exclude-standard'], { maxBuffer: 2 ** 26 })
  for (const file of stdout.split('\0').filter(Boolean)) await cp(file, join(folder, file)).catch(ignoreMissing)
  await symlink(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'))
  // The links of a package to its siblings are relative: in the copy they lead to the copy.
  for await (const modules of glob('packages/*/node_modules')) {
    await cp(modules, join(folder, modules), { recursive: true, verbatimSymlinks: true })
  }

  return {
    async without(file, { find, replace }, work) {
      const path = join(folder, file)
      const before = await readFile(path, 'utf8')
      await writeFile(
        path,
        before.replace(find, () => replace)
      )
      try {
        return await work()
      } finally {
        await writeFile(path, before)
      }
    },
    test: (file) => run(folder, file),
    remove: () => rm(folder, { recursive: true })
  }
}

function run(folder: string, file: string): Promise<Verdict> {
  const { promise, resolve } = Promise.withResolvers<Verdict>()
  const env = { ...process.env, TAP: '1', TAP_BAIL: '1', TAP_TIMEOUT: String(LIMIT_MS / 1_000) }
  // A group of its own: a test may leave children behind.
  const child = spawn(process.execPath, [file], { cwd: folder, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    kill(child.pid)
    // What has left the group may hold these.
    for (const stream of [child.stdout, child.stderr]) stream.destroy()
  }, LIMIT_MS)
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  }
  child.on('exit', () => kill(child.pid))
  child.on('close', (code) => {
    clearTimeout(timer)
    resolve({ passed: code === 0, by: isLate ? 'its time' : reasonIn(output, code), output })
  })
  return promise
}

function kill(group: number | undefined): void {
  try {
    if (group !== undefined) process.kill(-group, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** The title of the test that the first failure belongs to. */
function reasonIn(output: string, code: number | null): string {
  const [before = '', ...failed] = output.split(/^[ \t]*not ok /m)
  const title = failed.length > 0 ? Array.from(before.matchAll(/^# Subtest: (.*)$/gm)).at(-1)?.[1] : undefined
  return title ?? `exit code ${code}`
}

function ignoreMissing(error: unknown): void {
  // Git lists a file that was deleted and not yet committed.
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
}

/** The path of a test file as a place names it. */
export function testFile(place: string, test: string): string {
  const [owner = ''] = place.split('/', 1)
  const [folder, name] = test.includes('/') ? test.split('/', 2) : [owner, test]
  return join('packages', folder ?? owner, 'test', `${name}.test.ts`)
}
