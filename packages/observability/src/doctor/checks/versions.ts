import type { InstalledPackage } from '../dependency-tree.ts'
import { type Finding, fine, note, wrong } from '../finding.ts'
import { installed, type Manifest, OWN } from '../manifest.ts'
import { isInRange } from '../version-range.ts'

const SUITE = /^(?:@fastify-observability\/|fastify-observability$)/
const LOGGING = '@fastify-observability/logging'
const PINO = 'pino'

/** Node, and the peers of the suite's packages, against what these support. */
export function checkVersions(application: Manifest | undefined, packages: readonly InstalledPackage[]): Finding[] {
  const suite = suiteIn(packages)
  const findings = [...suite.flatMap(checkEngine), ...suite.flatMap(checkPeers), ...checkPino(application, suite)]
  if (!application) findings.push(note('versions', 'no-package', 'there is no package.json here or above'))
  if (findings.some(({ state }) => state === 'wrong')) return distinct(findings)
  const names = new Set(suite.flatMap(({ peerDependencies }) => Object.keys(peerDependencies)))
  const versions = Array.from(names, (name) => installedFor(name, suite)).flatMap((found) => found ?? [])
  const shown = [`Node ${process.versions.node}`, ...versions.map(({ name, version }) => `${name} ${version}`)]
  return [fine('versions', `supported: ${shown.join(', ')}`), ...distinct(findings)]
}

/** Whether the packages can be loaded by this Node. */
export function isNodeSupported(packages: readonly InstalledPackage[]): boolean {
  return [OWN, ...packages.filter(isOurs)].every((one) => checkEngine(one).length === 0)
}

/** The packages of the suite that the application has, or else this one, which was brought for the moment. */
function suiteIn(packages: readonly InstalledPackage[]): readonly Manifest[] {
  const found = packages.filter(isOurs)
  return found.length > 0 ? found : [OWN]
}

function isOurs({ name }: Manifest): boolean {
  return SUITE.test(name)
}

function checkEngine({ name, version, engines: { node = '*' } }: Manifest): Finding[] {
  if (isInRange(process.versions.node, node) !== false) return []
  return [wrong('versions', 'node-version', `this is Node ${process.versions.node}; ${name} ${version} needs ${node}`)]
}

function checkPeers({ name: asking, folder, peerDependencies, optionalPeers }: Manifest): Finding[] {
  return Object.entries(peerDependencies).flatMap(([name, range]) => {
    const found = installed(name, folder)
    if (!found) {
      return optionalPeers.has(name) ? [] : [wrong('versions', 'not-installed', `${asking} needs ${name} ${range}`)]
    }
    if (isInRange(found.version, range) !== false) return []
    const text = `${name} ${found.version} is installed; ${asking} needs ${range}`
    return [wrong('versions', 'package-version', text)]
  })
}

/** The application's own pino is read by the logger's, whichever copy it is: of another major nobody has tried it. */
function checkPino(application: Manifest | undefined, suite: readonly Manifest[]): Finding[] {
  const range = suite.find(({ name }) => name === LOGGING)?.dependencies[PINO]
  const own = application?.dependencies[PINO] === undefined ? undefined : installed(PINO, application.folder)
  if (range === undefined || !own || isInRange(own.version, range) !== false) return []
  return [note('versions', 'package-version', `${PINO} ${own.version} is installed; ${LOGGING} is tried with ${range}`)]
}

function installedFor(name: string, suite: readonly Manifest[]): Manifest | undefined {
  for (const { folder } of suite) {
    const found = installed(name, folder)
    if (found) return found
  }
  return undefined
}

/** One for each text: several packages of the suite ask for the same. */
function distinct(findings: readonly Finding[]): Finding[] {
  return [...new Map(findings.map((finding) => [finding.text.replace(/; .*/, ''), finding])).values()]
}
