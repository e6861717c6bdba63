import { readFileSync, realpathSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'
import { isRecord } from '../values/record.ts'

/** What the application's package.json says. */
export interface Application {
  name?: string
  version?: string
}

const OURS = /^(@fastify-observability\/|fastify-observability$)/
const found = new Map<string, Application>()

/** The application of the process's main module, which does not change. */
export function applicationOf(main = process.argv[1] ?? ''): Application {
  const known = found.get(main)
  if (known) return known
  const application = findApplication(main)
  found.set(main, application)
  return application
}

/** The nearest package.json above a file that has a name and is no dependency's. */
function findApplication(main: string): Application {
  if (main === '') return {}
  for (let folder = dirname(realPath(main)); ; folder = dirname(folder)) {
    // Of a command such as `fastify start`, the application is where that is installed.
    const { name, version } = folder.split(sep).includes('node_modules') ? {} : read(join(folder, 'package.json'))
    if (typeof name === 'string' && name !== '') {
      // Our own tests are nobody's service.
      if (OURS.test(name)) return {}
      return typeof version === 'string' && version !== '' ? { name, version } : { name }
    }
    if (folder === dirname(folder)) return {}
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

function read(path: string): Record<string, unknown> {
  try {
    const manifest: unknown = JSON.parse(readFileSync(path, 'utf8'))
    return isRecord(manifest) ? manifest : {}
  } catch {
    return {}
  }
}
