/** An error as it stands in a line. */
export interface ErrorFields {
  type: string
  message: string
  stack?: string
  cause?: ErrorFields
}

const MAX_CAUSES = 8

/** Type, message, stack and causes of whatever was thrown. */
export function errorFields(error: unknown, depth = 0): ErrorFields {
  if (!(error instanceof Error)) return { type: error === null ? 'null' : typeof error, message: String(error) }
  return {
    type: error.name,
    message: error.message,
    ...(error.stack !== undefined && { stack: error.stack }),
    ...(error.cause !== undefined && depth < MAX_CAUSES && { cause: errorFields(error.cause, depth + 1) })
  }
}
