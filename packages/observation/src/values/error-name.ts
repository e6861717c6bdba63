import { createRedactor } from '../redaction/redactor.ts'
import { isErrorToRead, MAX_NAME } from './thrown.ts'

const redactor = createRedactor()

/** The code or class of an error, which may be anything and may throw when it is read; `undefined` for what is no error. */
export function errorName(error: unknown): string | undefined {
  try {
    if (!isErrorToRead(error)) return undefined
    const name: unknown = 'code' in error && typeof error.code === 'string' ? error.code : error.name
    return typeof name === 'string' ? redactor.text(name).slice(0, MAX_NAME) : 'Error'
  } catch {
    return undefined
  }
}
