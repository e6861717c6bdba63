import { basename } from 'node:path'
import { type Finding, fine, note, wrong } from '../finding.ts'
import type { Aftermath, Visit } from '../service.ts'

// The check of the copies has it, with who brings each.
const SAID_ELSEWHERE = /copies of @opentelemetry\/api/
const IGNORED = / must be .* is ignored$/

/** Whether the service starts. */
export function checkStart(file: string | undefined, visit: Visit, timeoutMs: number): Finding {
  const { account, obstacle, late, end } = visit
  const name = file === undefined ? 'a service without a file' : basename(file)
  if (obstacle) return wrong('service', obstacle.fault, `${name}: ${obstacle.text}`)
  if (late !== undefined) {
    const doing = late === 'loading' ? 'it was still being imported' : 'its plugins were still being loaded'
    return wrong('service', 'not-ready', `${name} was not ready after ${timeoutMs / 1_000} s: ${doing}`)
  }
  if (!account) return wrong('service', 'ended', `${name}: ${end}`)
  const { service } = account.report
  const started = file === undefined ? 'no file is given: the environment alone is looked at' : `${name} is ready`
  return fine(
    'service',
    `${started}, as ${[service.name, service.version, service.environment].filter(Boolean).join(', ')}`
  )
}

/** What the suite warned of, and whether the process ended once the service was closed. */
export function checkAftermath(file: string | undefined, { hasEnded, warnings }: Aftermath): Finding[] {
  const findings = warnings
    .filter((warning) => !SAID_ELSEWHERE.test(warning))
    .map((warning) =>
      IGNORED.test(warning) ? wrong('service', 'variable', warning) : note('service', 'warning', warning)
    )
  if (hasEnded || file === undefined) return findings
  return [...findings, note('service', 'not-closed', `${basename(file)} did not end within 10 s of being closed`)]
}
