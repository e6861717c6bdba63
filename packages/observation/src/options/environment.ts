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
