const LABELS = new Map<unknown, string>([
  [60, 'fatal'],
  [50, 'error'],
  [40, 'warn'],
  [30, 'info'],
  [20, 'debug'],
  [10, 'trace']
])

/** The word for a level as it stands in a line, where pino writes a number too. */
export function levelWord(level: unknown): string {
  return LABELS.get(level) ?? (level === undefined ? '' : String(level))
}
