/** An error as it is kept: its texts, and nothing that it refers to. */
export interface RecordedError {
  readonly type: string
  readonly message: string
  readonly code: string | undefined
  /** Its frames, as the engine writes them, without the message before them. */
  readonly frames: readonly string[]
}

const MAX_CAUSES = 8
const MAX_FRAMES = 30
const MAX_TEXT = 8_192

/** The error and its causes, which may be anything and may throw when they are read. */
export function chainOf(error: unknown): RecordedError[] {
  const chain: RecordedError[] = []
  const seen = new Set<unknown>()
  try {
    for (let next = error; next !== undefined && next !== null && chain.length <= MAX_CAUSES && !seen.has(next); ) {
      seen.add(next)
      chain.push(recordOf(next))
      next = next instanceof Error ? next.cause : undefined
    }
  } catch {
    chain.push({ type: 'Error', message: '[unreadable]', code: undefined, frames: [] })
  }
  return chain
}

function recordOf(error: unknown): RecordedError {
  if (!(error instanceof Error)) {
    return { type: typeof error, message: String(error).slice(0, MAX_TEXT), code: undefined, frames: [] }
  }
  const { name, message } = error
  const code = 'code' in error && error.code !== undefined ? String(error.code) : undefined
  return { type: name, message: String(message).slice(0, MAX_TEXT), code, frames: framesOf(error, message) }
}

// A message may contain lines that look like frames.
function framesOf({ stack = '' }: Error, message: string): string[] {
  const at = message === '' ? 0 : stack.indexOf(message)
  const behind = at === -1 ? stack : stack.slice(at + message.length)
  return behind
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('at '))
    .slice(0, MAX_FRAMES)
}
