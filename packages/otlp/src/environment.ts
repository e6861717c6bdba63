import { ignoreVariable } from '@fastify-observability/observation/internal'
import { getStringFromEnv } from '@opentelemetry/core'

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
    ignoreVariable(variable, text, `a number from ${least}`, warn)
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
    if (value !== undefined) ignoreVariable(variable, value, choices.join(' or '), warn)
  }
  return undefined
}
