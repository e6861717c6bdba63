/** The values of a metric's labels; one that is left out is empty. */
export type Labels<Label extends string> = { [Name in Label]?: string | number } & ([Label] extends [never]
  ? Record<string, never>
  : unknown)

// A caller's input may become a label; longer values are cut.
const MAX_LENGTH = 256

/** The text of a label's value, bounded, and without what a reader of the exposition could not decode. */
export function labelText(value: unknown): string {
  return value === undefined || value === null ? '' : String(value).slice(0, MAX_LENGTH).toWellFormed()
}

/**
 * The values in the order of the names.
 * @throws TypeError unless there is one text for each name, and nothing else.
 */
export function exactValues(names: readonly string[], labels: object): string[] {
  const values: string[] = []
  for (const name of names) {
    const value: unknown = Reflect.get(labels, name)
    if (typeof value === 'string') values.push(value)
  }
  const given = Object.keys(labels)
  if (values.length === names.length && given.length === names.length) return values
  throw new TypeError(`the labels [${names.join(', ')}] are declared, got [${given.join(', ')}]`)
}

/** The same for labels of the application's, of which some may be missing; `undefined` for those that do not fit. */
export function acceptedValues(names: readonly string[], labels: unknown): string[] | undefined {
  if (typeof labels !== 'object' || labels === null) return undefined
  // Getters and proxies can throw.
  try {
    const values: string[] = []
    let found = 0
    for (const name of names) {
      const value: unknown = Reflect.get(labels, name)
      if (value !== undefined) found++
      if (value !== undefined && typeof value !== 'string' && typeof value !== 'number') return undefined
      values.push(labelText(value))
    }
    const given = Object.keys(labels)
    return found === given.length || given.every((name) => names.includes(name)) ? values : undefined
  } catch {
    return undefined
  }
}

/** Both sets as one; `undefined` when one cannot be read. */
export function mergedLabels(labels: object | undefined, more: object | undefined): object | undefined {
  try {
    return { ...labels, ...more }
  } catch {
    return undefined
  }
}
