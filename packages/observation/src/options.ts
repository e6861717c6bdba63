import { inspect } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import * as v from 'valibot'

/** An error for a wrong option or environment variable: one sentence with package, option, rule and value. */
export function optionError(packageName: string, option: string, rule: string, received: unknown): TypeError {
  const value = inspect(received, { depth: 0, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 80 })
  return new TypeError(`${packageName}: ${option} ${rule}, got ${value}`)
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
  const result = v.safeParse(schema, options, { abortEarly: true })
  if (result.success) return result.output
  const { issue, path } = innermost(result.issues[0], [])
  const option = path.length === 0 ? 'the options' : `option "${path.join('.')}"`
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    throw optionError(packageName, `unknown ${option}:`, suggestion(schema, path), issue.path?.at(-1)?.value)
  }
  throw optionError(packageName, option, `must be ${rule(issue)}`, issue.input)
}

interface Located {
  issue: v.BaseIssue<unknown>
  path: string[]
}

// A union reports its alternatives' issues below its own: the one that got furthest into the value says most.
function innermost(issue: v.BaseIssue<unknown>, parents: string[]): Located {
  const path = [...parents, ...(issue.path ?? []).map((item) => String(item.key))]
  const deeper = (issue.issues ?? [])
    .map((inner) => innermost(inner, path))
    .filter((found) => found.path.length > path.length)
  return deeper[0] ?? { issue, path }
}

function rule(issue: v.BaseIssue<unknown>): string {
  // Schemas pass their own wording as the message; valibot's default one starts with "Invalid".
  if (!issue.message.startsWith('Invalid ')) return issue.message
  return String(issue.expected).toLowerCase()
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
