import { relative } from 'node:path'
import type { InstalledPackage } from '../dependency-tree.ts'
import { type Finding, fine, note, wrong } from '../finding.ts'

// What one copy of these holds, such as the current span, another does not see.
const SINGLE = /^(?:@opentelemetry\/api|@prometheus-io\/client|@fastify-observability\/.*|fastify-observability)$/

/** Packages that have to be there once, and are installed several times. */
export function checkCopies(packages: readonly InstalledPackage[]): Finding[] {
  const single = packages.filter(({ name }) => SINGLE.test(name))
  const names = [...new Set(single.map(({ name }) => name))].sort()
  const findings = names.flatMap((name) =>
    checkOne(
      name,
      single.filter((one) => one.name === name)
    )
  )
  if (findings.length > 0 || names.length === 0) return findings
  return [fine('copies', `one copy each: ${names.join(', ')}`)]
}

function checkOne(name: string, copies: readonly InstalledPackage[]): Finding[] {
  if (copies.length === 1) return []
  const text = `${copies.length} copies of ${name} are installed: ${copies.map(described).join(', ')}`
  // Copies of one version share what they hold.
  const isOneVersion = new Set(copies.map(({ version }) => version)).size === 1
  return [(isOneVersion ? note : wrong)('copies', 'copies', text)]
}

function described({ version, folder, askedBy }: InstalledPackage): string {
  const [first = 'the application', ...more] = new Set(askedBy.filter(Boolean))
  const others = more.length > 0 ? ` and ${more.length} more` : ''
  return `${version} in ${relative(process.cwd(), folder)} (for ${first}${others})`
}
