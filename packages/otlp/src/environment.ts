import { getStringFromEnv } from '@opentelemetry/core'

const reported = new Set<string>()

/** Reports a variable that does not hold, once a process. Its value is not repeated: it may be a secret. */
export function ignored(variable: string, reason: string, warn: (message: string) => void): void {
  const message = `${variable} ${reason} and is ignored`
  if (reported.has(message)) return
  reported.add(message)
  warn(message)
}

/** The first of the variables that is a number from `least`. */
export function numberFrom(
  variables: readonly string[],
  least: number,
  warn: (message: string) => void
): number | undefined {
  for (const variable of variables) {
    const text = getStringFromEnv(variable)
    if (text === undefined) continue
    const value = Number(text)
    if (Number.isFinite(value) && value >= least) return value
    ignored(variable, `is not a number from ${least}`, warn)
  }
  return undefined
}

/** The first of the variables that is one of the choices, in any case. */
export function choiceOf<const Choice extends string>(
  variables: readonly string[],
  choices: readonly Choice[],
  warn: (message: string) => void
): Choice | undefined {
  for (const variable of variables) {
    const value = getStringFromEnv(variable)
    const choice = choices.find((one) => one === value?.toLowerCase())
    if (choice) return choice
    if (value !== undefined) ignored(variable, `is not ${listOf(choices)}`, warn)
  }
  return undefined
}

function listOf(choices: readonly string[]): string {
  return choices.map((choice) => `"${choice}"`).join(' or ')
}
