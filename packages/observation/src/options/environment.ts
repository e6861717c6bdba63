import { inspect } from 'node:util'

const reported = new Set<string>()

/**
 * Warns, once a process, of a variable whose value is invalid. Platforms set variables for whole fleets, so that none may
 * keep a service from starting: the specification wants "a warning" and the value ignored.
 * @param value `undefined` for one that may hold a secret
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#parsing-empty-value
 */
export function ignoreVariable(
  variable: string,
  value: string | undefined,
  rule: string,
  warn: (message: string) => void
): undefined {
  const named = value === undefined ? 'its value' : inspect(value, { maxStringLength: 80 })
  const message = `${variable} must be ${rule}, ${named} is ignored`
  if (reported.has(message)) return
  reported.add(message)
  warn(message)
}

/** What is known of a variable's list of names; `undefined` where nothing is. Case does not count, and empty entries say nothing. */
export function listFromEnv(
  variable: string,
  known: readonly string[],
  warn: (message: string) => void
): string[] | undefined {
  const names = (process.env[variable] ?? '').split(',').flatMap((name) => name.trim().toLowerCase() || [])
  for (const name of names) {
    if (!known.includes(name)) ignoreVariable(variable, name, `a list of ${known.join(', ')}`, warn)
  }
  const accepted = names.filter((name) => known.includes(name))
  return accepted.length > 0 ? accepted : undefined
}

/** Whether OTEL_SDK_DISABLED switches OpenTelemetry off. */
export function isOpenTelemetryDisabled(warn: (message: string) => void): boolean {
  const text = process.env.OTEL_SDK_DISABLED?.trim() ?? ''
  if (!/^(true|false|)$/i.test(text)) ignoreVariable('OTEL_SDK_DISABLED', text, 'true or false', warn)
  return text.toLowerCase() === 'true'
}
