import { inspect } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import * as v from 'valibot'
import { documented } from '../docs.ts'
import { createRedactor } from '../redaction/redactor.ts'
import { isRecord } from '../values/record.ts'
import { ignoreVariable } from './environment.ts'

const secrets = createRedactor()
// The key of a DSN stands there.
const USER_IN_URL = /\/\/[^/@\s]*@/g
// Keys, tokens and passwords of generators.
const RANDOM = /(?=[\w+/=-]*\d)(?=[\w+/=-]*[a-z])[\w+/=-]{16,}/i
const TEXT = { breakLength: Number.POSITIVE_INFINITY, maxStringLength: 80 }
// A timer takes what is beyond 24 days for a millisecond.
const DAY_MS = 86_400_000

/** The schema of an option that says for how long something waits at most. */
export function waitSchema(leastMs: 0 | 1): v.GenericSchema<number | undefined> {
  const rule = `a number of milliseconds from ${leastMs} to ${DAY_MS}, a day`
  return v.optional(v.pipe(v.number(rule), v.minValue(leastMs, rule), v.maxValue(DAY_MS, rule)))
}

function optionError(packageName: string, option: string, rule: string, name: string, received: unknown): TypeError {
  return documented(new TypeError(`${packageName}: ${option} ${rule}, got ${shown(name, received)}`), 'wrong-options')
}

/** A value for a message. What may be a secret, by its option or its looks, is only described. */
function shown(name: string, value: unknown): string {
  // What stands in an object may be anything.
  if (typeof value !== 'string')
    return inspect(value, { depth: isRecord(value) && Object.keys(value).length > 0 ? -1 : 0 })
  const text = secrets.text(value).replace(USER_IN_URL, `//${secrets.replacement}@`)
  return secrets.isSecret(name) || RANDOM.test(text) ? `a text of ${value.length} characters` : inspect(text, TEXT)
}

/**
 * Checks a plugin's options against its schema.
 * @throws TypeError naming package, option, value and what is allowed.
 */
export function parseOptions<Output>(
  packageName: string,
  schema: v.GenericSchema<Output>,
  options: unknown = {}
): Output {
  const result = v.safeParse(schema, options)
  if (result.success) return result.output
  const { issue, path } = mostTelling(result.issues)
  const option = path.length === 0 ? 'the options' : `option "${path.join('.')}"`
  if (isUnknownKey(issue)) {
    const received = issue.path?.at(-1)?.value
    throw optionError(packageName, `unknown ${option}:`, suggestion(schema, path), path.at(-1) ?? '', received)
  }
  throw optionError(packageName, option, rule(issue), path.at(-1) ?? '', issue.input)
}

/** The environment variables that a schema names, without those that are empty or invalid: these are warned of. */
export function parseEnv<const Entries extends v.ObjectEntries>(
  schema: v.ObjectSchema<Entries, undefined>,
  warn: (message: string) => void,
  env = process.env
): v.InferOutput<typeof schema> {
  const accepted = Object.entries(schema.entries).flatMap(([name, entry]) => {
    const value = env[name]
    if (!value) return []
    const { issues } = v.safeParse(entry, value)
    if (!issues) return [[name, value]]
    // A URL may hold a password.
    const shown = value.includes('://') ? undefined : value
    ignoreVariable(name, shown, rule(mostTelling(issues).issue).replace(/^must be /, ''), warn)
    return []
  })
  return v.parse(schema, Object.fromEntries(accepted))
}

interface Located {
  issue: v.BaseIssue<unknown>
  path: string[]
}

function isUnknownKey({ type, expected }: v.BaseIssue<unknown>): boolean {
  return type === 'strict_object' && expected === 'never'
}

function mostTelling(issues: [v.BaseIssue<unknown>, ...v.BaseIssue<unknown>[]]): Located {
  const found = issues.flatMap((issue) => innermost(issue, []))
  // A typo says more than the option that is missing because of it.
  return found.find(({ issue }) => isUnknownKey(issue)) ?? found[0] ?? { issue: issues[0], path: [] }
}

// A union reports its alternatives' issues below its own: those that got further into the value say more.
function innermost(issue: v.BaseIssue<unknown>, parents: string[]): Located[] {
  const path = [...parents, ...(issue.path ?? []).map((item) => String(item.key))]
  const deeper = (issue.issues ?? [])
    .flatMap((inner) => innermost(inner, path))
    .filter((found) => found.path.length > path.length)
  return deeper.length > 0 ? deeper : [{ issue, path }]
}

function rule({ expected, message }: v.BaseIssue<unknown>): string {
  if (message.startsWith('Invalid key')) return 'is missing'
  // Schemas pass their own wording as the message; valibot's begins with "Invalid".
  return `must be ${message.startsWith('Invalid ') ? String(expected).toLowerCase() : message}`
}

function suggestion(schema: v.GenericSchema, path: string[]): string {
  const known = keysAt(schema, path.slice(0, -1))
  const wrong = path.at(-1) ?? ''
  const guess = known.length > 0 ? closest(wrong, known) : ''
  if (guess && distance(wrong.toLowerCase(), guess.toLowerCase()) <= 3) return `did you mean "${guess}"?`
  return `allowed are ${known.join(', ')}`
}

function keysAt(schema: unknown, path: string[]): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  if ('wrapped' in schema) return keysAt(schema.wrapped, path)
  if ('options' in schema && Array.isArray(schema.options)) {
    return schema.options.flatMap((option) => keysAt(option, path))
  }
  const [head, ...rest] = path
  if ('entries' in schema && typeof schema.entries === 'object' && schema.entries !== null) {
    if (head === undefined) return Object.keys(schema.entries)
    return keysAt(Object.entries(schema.entries).find(([key]) => key === head)?.[1], rest)
  }
  return 'value' in schema && head !== undefined ? keysAt(schema.value, rest) : []
}
