import type { Account } from '../account.ts'
import { type Finding, fine } from '../finding.ts'

/** What of pino's options the suite has found, and keeps. */
export function checkSettings({ kept }: Account): Finding[] {
  const text =
    kept.length > 0 ? `kept as the service has it: ${kept.join(', ')}` : 'pino has no settings of the service'
  return [fine('settings', text)]
}
