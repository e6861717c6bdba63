import { isErrorToRead, thrownText, thrownTexts } from '@fastify-observability/observation/internal'

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
      next = isErrorToRead(next) ? next.cause : undefined
    }
  } catch {
    chain.push({ type: 'Error', message: '[unreadable]', code: undefined, frames: [] })
  }
  return chain
}

function recordOf(error: unknown): RecordedError {
  const { name, message, stack = '' } = thrownTexts(error)
  const code = isErrorToRead(error) && 'code' in error && error.code !== undefined ? thrownText(error.code) : undefined
  return { type: name, message: message.slice(0, MAX_TEXT), code, frames: framesOf(stack, message) }
}

// A message may contain lines that look like frames.
function framesOf(stack: string, message: string): string[] {
  const at = message === '' ? 0 : stack.indexOf(message)
  const behind = at === -1 ? stack : stack.slice(at + message.length)
  return behind
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('at '))
    .slice(0, MAX_FRAMES)
}
