import { readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Loaded by Nodes that are too old for the suite: it imports nothing of it.

/** What is read of a package.json. */
export interface Manifest {
  readonly folder: string
  readonly name: string
  readonly version: string
  readonly engines: Readonly<Record<string, string>>
  readonly scripts: Readonly<Record<string, string>>
  readonly dependencies: Readonly<Record<string, string>>
  readonly optionalDependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
  /** Names of peers that may be missing. */
  readonly optionalPeers: ReadonlySet<string>
  readonly repository: string
}

type Json = Record<string, unknown>

const REPOSITORY_URL = /^git\+(.*)\.git$/

/** This package. */
export const OWN: Manifest = readManifest(fileURLToPath(new URL('../..', import.meta.url))) ?? emptyManifest()
export const REPOSITORY: string = OWN.repository.replace(REPOSITORY_URL, '$1')

/** The package.json of a folder, if there is one. */
function readManifest(folder: string): Manifest | undefined {
  const json = read(join(folder, 'package.json'))
  if (!json) return undefined
  const repository = recordOf(json.repository).url
  return {
    folder,
    name: textOf(json.name),
    version: textOf(json.version),
    engines: textsOf(json.engines),
    scripts: textsOf(json.scripts),
    dependencies: textsOf(json.dependencies),
    optionalDependencies: textsOf(json.optionalDependencies),
    peerDependencies: textsOf(json.peerDependencies),
    optionalPeers: new Set(
      Object.entries(recordOf(json.peerDependenciesMeta)).flatMap(([name, meta]) =>
        recordOf(meta).optional === true ? [name] : []
      )
    ),
    repository: textOf(repository)
  }
}

/** The package that a folder belongs to. */
export function applicationOf(folder: string): Manifest | undefined {
  for (const above of foldersAbove(folder)) {
    const manifest = readManifest(above)
    if (manifest) return manifest
  }
  return undefined
}

/** What `import name` finds from a folder, without running any of it. */
export function installed(name: string, folder: string): Manifest | undefined {
  for (const above of foldersAbove(folder)) {
    const found = join(above, 'node_modules', name)
    const manifest = readManifest(found)
    if (manifest) return { ...manifest, folder: realpathSync(found) }
  }
  return undefined
}

function foldersAbove(folder: string): string[] {
  const above = dirname(folder)
  return above === folder ? [folder] : [folder, ...foldersAbove(above)]
}

function read(file: string): Json | undefined {
  try {
    return recordOf(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return undefined
  }
}

function recordOf(value: unknown): Json {
  return isRecord(value) ? value : {}
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function textsOf(value: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(recordOf(value)).map(([name, text]) => [name, textOf(text)]))
}

function emptyManifest(): Manifest {
  const none = {}
  return {
    folder: '',
    name: 'fastify-observability',
    version: '',
    engines: none,
    scripts: none,
    dependencies: none,
    optionalDependencies: none,
    peerDependencies: none,
    optionalPeers: new Set(),
    repository: ''
  }
}
