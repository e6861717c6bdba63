import type { Account } from './account.ts'
import type { Arguments } from './arguments.ts'
import { checkBundle } from './checks/bundle.ts'
import { checkEndpoints } from './checks/endpoints.ts'
import { checkInstalled, checkLoaded, preloadFlags } from './checks/preload.ts'
import { checkProxy } from './checks/proxy.ts'
import { checkSentry } from './checks/sentry.ts'
import { checkAftermath, checkStart } from './checks/service.ts'
import { checkSettings } from './checks/settings.ts'
import type { InstalledPackage } from './dependency-tree.ts'
import type { Finding } from './finding.ts'
import type { Manifest } from './manifest.ts'
import { hidingSecrets } from './secrets.ts'
import { visit } from './service.ts'

const OTEL = /^OTEL_/

/** What has to be started, loaded or sent to be known. Its texts are without secrets. */
export async function diagnose(
  { file, sentry, timeoutMs }: Arguments,
  application: Manifest | undefined,
  packages: readonly InstalledPackage[]
): Promise<Finding[]> {
  const flags = preloadFlags(application)
  const visited = await visit({ file, flags, timeoutMs })
  const { account } = visited
  const [findings, aftermath] = await Promise.all([account ? checkAccount(account, file, sentry) : [], visited.after])
  const all = [
    ...(file === undefined ? [] : checkBundle(file)),
    checkStart(file, visited, timeoutMs),
    ...checkAftermath(file, aftermath),
    ...(account && file !== undefined ? checkLoaded(account) : checkInstalled(application, packages, flags)),
    ...findings
  ]
  const { variables = {}, endpoint, dsn } = account ?? {}
  const hide = hidingSecrets({ ...process.env, ...variables, endpoint, dsn })
  return all.map((finding) => ({ ...finding, text: hide(finding.text) }))
}

async function checkAccount(account: Account, file: string | undefined, isEventAsked: boolean): Promise<Finding[]> {
  adopt(account.variables)
  const [endpoints, events] = await Promise.all([checkEndpoints(account), checkSentry(account, isEventAsked)])
  return [...(file === undefined ? [] : [...checkSettings(account), ...checkProxy(account)]), ...endpoints, ...events]
}

/** A service may set variables itself, such as from a file. */
function adopt(variables: Account['variables']): void {
  for (const name of Object.keys(process.env)) if (OTEL.test(name)) delete process.env[name]
  Object.assign(process.env, variables)
}
