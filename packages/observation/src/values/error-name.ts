/** The code or class of an error, which may be anything and may throw when it is read; `undefined` for what is no error. */
export function errorName(error: unknown): string | undefined {
  try {
    if (!(error instanceof Error)) return undefined
    return 'code' in error && typeof error.code === 'string' ? error.code : error.name
  } catch {
    return undefined
  }
}
