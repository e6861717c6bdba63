import { readFileSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'
import { isRecord } from '@fastify-observability/observation/internal'

/** An OpenTelemetry API of this process. Spans and contexts of one are invisible to an older other. */
export interface ApiCopy {
  version: string
  /** `undefined` for one inside a bundle. */
  folder: string | undefined
}

const API = '@opentelemetry/api'
const API_FOLDER = /^.*[\\/]@opentelemetry[\\/]api(?=[\\/](?:build[\\/]src|dist)[\\/]index\.c?js$)/
const API_REGISTRY = Symbol.for('opentelemetry.js.api.1')

/**
 * The copies that Node has loaded by `require`, and those that this package, the application and its dependencies get by
 * `import`, which leaves no trace.
 * @param paths the files that Node has loaded by `require`
 */
export function apiCopies(paths: readonly string[]): ApiCopy[] {
  const loaded = paths.flatMap((path) => API_FOLDER.exec(path)?.[0] ?? [])
  const folders = new Set([...loaded, ...importers().flatMap(apiOf)].map(realPath))
  const copies: ApiCopy[] = Array.from(folders, (folder) => ({ version: fieldOf(folder, 'version'), folder }))
  const registry: unknown = Reflect.get(globalThis, API_REGISTRY)
  const first = isRecord(registry) && 'version' in registry ? String(registry.version) : undefined
  if (first !== undefined && !copies.some(({ version }) => version === first)) {
    copies.push({ version: first, folder: undefined })
  }
  return copies
}

/** Files that an `import` of the API may stand in. */
function importers(): string[] {
  const [, main = join(process.cwd(), 'index.js')] = process.argv
  const application = packageOf(main)
  const dependencies = application === undefined ? [] : Object.keys(Object(read(application).dependencies))
  const own = import.meta.filename
  return [
    ...(own === undefined ? [] : [own]),
    main,
    ...dependencies.flatMap((name) => join(application ?? '', 'node_modules', name, 'index.js'))
  ]
}

/** The folder of the package.json that a file belongs to. */
function packageOf(file: string): string | undefined {
  const parts = file.split(sep)
  for (let length = parts.length - 1; length > 0; length--) {
    const folder = parts.slice(0, length).join(sep)
    if (Object.keys(read(folder)).length > 0) return folder
  }
  return undefined
}

function apiOf(importer: string): string[] {
  try {
    const path = createRequire(realPath(importer)).resolve(API)
    return [API_FOLDER.exec(path)?.[0] ?? []].flat()
  } catch {
    return []
  }
}

// A link of pnpm's to the folder that its own dependencies stand beside.
function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

/** A field of a folder's package.json. */
export function fieldOf(folder: string, field: string): string {
  return String(read(folder)[field] ?? 'unknown')
}

function read(folder: string): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    return isRecord(found) ? found : {}
  } catch {
    return {}
  }
}
