const PLACEHOLDER = /%[sdifjoO%]/g

/**
 * Fills the placeholders of pino's messages: `%s` text, `%d` `%f` `%i` numbers, `%j` `%o` `%O` JSON, `%%` a percent sign.
 * @returns the message and how many of the values are in it.
 */
export function interpolate(
  format: string,
  values: readonly unknown[],
  describe: (value: unknown) => string
): [message: string, used: number] {
  let used = 0
  if (values.length === 0 || !format.includes('%')) return [format, used]
  const message = format.replace(PLACEHOLDER, (placeholder) => {
    if (placeholder === '%%') return '%'
    if (used >= values.length) return placeholder
    const value = values[used++]
    if (placeholder === '%i') return String(Math.floor(numberOf(value)))
    if (placeholder === '%d' || placeholder === '%f') return String(numberOf(value))
    return describe(value)
  })
  return [message, used]
}

// Number() of anything else could run its code.
function numberOf(value: unknown): number {
  return typeof value === 'number' ||
    typeof value === 'string' ||
    typeof value === 'bigint' ||
    typeof value === 'boolean'
    ? Number(value)
    : Number.NaN
}
