import { execFile } from 'node:child_process'
import { glob, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'

export interface Tarball {
  name: string
  filename: string
}

const execute = promisify(execFile)

/** The folders of what is published, by name. */
export async function publishedFolders(): Promise<Map<string, string>> {
  const folders = new Map<string, string>()
  for await (const path of glob('packages/*/package.json')) {
    const { name, private: unpublished }: { name: string; private?: boolean } = JSON.parse(await readFile(path, 'utf8'))
    if (!unpublished) folders.set(name, dirname(path))
  }
  return folders
}

/** Packs the packages, which have been built, into the folder. */
export async function pack(names: Iterable<string>, folder: string): Promise<Tarball[]> {
  const filters = [...names].flatMap((name) => ['--filter', name])
  const { stdout } = await execute('pnpm', ['-r', ...filters, 'pack', '--json', '--pack-destination', folder])
  return JSON.parse(stdout)
}

let passed = 0
let failed = 0

/** A step that counts as one, whatever becomes of it. */
export async function check(title: string, body: () => Promise<void>): Promise<void> {
  try {
    await body()
    passed++
    console.log(`ok - ${title}`)
  } catch (error) {
    failed++
    console.log(`not ok - ${title}\n${explain(error).replace(/^/gm, '  # ')}`)
  }
}

export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const late = Reflect.get(error, 'killed') ? 'still running when its time was up' : ''
  return [error.message, late, Reflect.get(error, 'stdout')].filter(Boolean).join('\n')
}

/** Prints what `.ci/run` counts. */
export function conclude(): void {
  console.log(`# passed ${passed}\n# failed ${failed}`)
  process.exitCode = failed === 0 ? 0 : 1
}
