import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Account } from '../account.ts'
import type { InstalledPackage } from '../dependency-tree.ts'
import { type Finding, fine, note, wrong } from '../finding.ts'
import type { Manifest } from '../manifest.ts'
import { isInRange } from '../version-range.ts'

const REGISTER = /(?:--import|--require|-r)[ =]["']?(\S*fastify-observability(?:\/tracing)?\/register\b[^\s"']*)/
const FLAG = /register\b/
const SCRIPTS = ['start', 'start:prod', 'serve']
/** Clients whose calls have spans by the preload only, by the versions that need it. */
const PRELOAD_ONLY: Readonly<Record<string, string>> = { pg: '*', ioredis: '<5.11', '@redis/client': '<5.12' }

/** The flags by which the application's own script loads the preload, unless this command was started so. */
export function preloadFlags(application: Manifest | undefined): string[] {
  if (isPreloading()) return []
  const [, preload] = SCRIPTS.map((name) => REGISTER.exec(application?.scripts[name] ?? '')).find(Boolean) ?? []
  if (!application || !preload) return []
  try {
    // Node looks for it from the working directory, which may be another one.
    const path = createRequire(join(application.folder, 'package.json')).resolve(preload)
    return ['--import', pathToFileURL(path).href]
  } catch {
    return []
  }
}

function isPreloading(): boolean {
  return FLAG.test([...process.execArgv, process.env.NODE_OPTIONS].join(' '))
}

/** What a service has loaded, and what of it has spans. */
export function checkLoaded({ instrumentation }: Account): Finding[] {
  const findings = instrumentation.flatMap(({ state, names }) => {
    const all = names.join(', ')
    if (state === 'preloadOnly')
      return [wrong('preload', 'preload', `calls of ${all} have no spans: the preload has not run`)]
    if (state === 'late')
      return [wrong('preload', 'loaded-too-early', `calls of ${all} have no spans: it was loaded too early`)]
    if (state === 'unsupported') {
      return [
        wrong(
          'preload',
          'unsupported',
          `calls of ${all} have no spans: loaded too early, or a version that is not supported`
        )
      ]
    }
    return []
  })
  const seen = instrumentation.flatMap(({ state, names }) =>
    state === 'instrumented' || state === 'published' ? names : []
  )
  return seen.length > 0 ? [fine('preload', `calls of ${seen.join(', ')} have spans`), ...findings] : findings
}

/** Without a service: what is installed whose calls have spans by the preload only. */
export function checkInstalled(
  application: Manifest | undefined,
  packages: readonly InstalledPackage[],
  flags: readonly string[]
): Finding[] {
  const clients = packages.filter(({ name, version }) => isInRange(version, PRELOAD_ONLY[name] ?? '<0') === true)
  const names = clients.map(({ name, version }) => `${name} ${version}`).join(', ')
  if (clients.length === 0) return [fine('preload', 'nothing is installed that needs the preload')]
  if (flags.length > 0)
    return [fine('preload', `the start script of ${application?.name} has the preload, for ${names}`)]
  if (isPreloading()) return [fine('preload', `the preload has run, for ${names}`)]
  return [note('preload', 'preload', `calls of ${names} have spans with the preload only`)]
}
