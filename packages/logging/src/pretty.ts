import { stripVTControlCharacters, styleText } from 'node:util'
import { isRecord } from '@fastify-observability/observation/internal'
import { CANONICAL, RESERVED_NAMES } from './fields.ts'
import { levelWord } from './level.ts'
import type { Fields, LineKeys } from './safe.ts'

type Style = Parameters<typeof styleText>[0]
type Paint = (style: Style, text: string) => string

const LEVELS = new Map<unknown, [name: string, style: Style]>([
  ['fatal', ['FATAL', ['bold', 'red']]],
  ['error', ['ERROR', 'red']],
  ['warn', ['WARN', 'yellow']],
  ['info', ['INFO', 'green']],
  ['debug', ['DEBUG', 'blue']],
  ['trace', ['TRACE', 'gray']]
])
// Of the canonical line, what its row shows in its own way, and what nobody reads in a terminal.
const SHOWN = new Set([...RESERVED_NAMES, ...CANONICAL.map(({ name }) => name)])
for (const name of ['sentry_event_id', 'db_calls', 'db_ms']) SHOWN.delete(name)
const LINE_ONLY = new Set(RESERVED_NAMES)
const ID_LENGTH = 8
const MAX_FRAMES = 8
const CONTROLS = /\p{Cc}/gu
const FOREIGN_FRAME = /\(node:|at node:|[\\/]node_modules[\\/]/

/** Whether to colour what goes to standard output, as Node decides it. https://nodejs.org/api/cli.html#force_color1-2-3 */
export function wantsColors({ FORCE_COLOR, NO_COLOR, TERM } = process.env, isTerminal = process.stdout.isTTY): boolean {
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false'
  return isTerminal === true && !NO_COLOR && TERM !== 'dumb'
}

/** Makes the function that turns a line into a row for people, an error with the application's own frames below it. */
export function createPretty({ messageKey, errorKey }: LineKeys, hasColors: boolean): (line: string) => string {
  const paint: Paint = (style, text) =>
    hasColors && text !== '' ? styleText(style, text, { validateStream: false }) : text

  function rowOf(line: Fields): string {
    const { time, level, request_id } = line
    const [name, style] = LEVELS.get(levelWord(level)) ?? [plain(level).toUpperCase(), 'cyan']
    const isRequest = line.route !== undefined && typeof line.duration_ms === 'number'
    const id = typeof request_id === 'string' ? paint('dim', plain(request_id.slice(-ID_LENGTH))) : ''
    const parts = [
      paint('dim', clock(time)),
      paint(style, name.padEnd(5)),
      isRequest ? requestText(line) : plain(line[messageKey]),
      fieldsText(line, isRequest ? SHOWN : LINE_ONLY),
      id
    ]
    return parts.filter((part) => part !== '').join(' ')
  }

  function requestText({ method, path, status_code, duration_ms, aborted }: Fields): string {
    const status = plain(status_code)
    const style = status >= '500' ? 'red' : status >= '400' ? 'yellow' : 'green'
    const text = `${plain(method ?? '-')} ${plain(path ?? '-')} ${paint(style, status)} ${Number(duration_ms).toFixed(1)} ms`
    return aborted === true ? `${text} ${paint('yellow', 'aborted')}` : text
  }

  function fieldsText(line: Fields, without: Set<string>): string {
    const own = Object.entries(line).filter(([key, value]) => {
      const isError = key === errorKey && isRecord(value) && typeof value.message === 'string'
      return !without.has(key) && key !== messageKey && !isError
    })
    return own.map(([key, value]) => `${paint('dim', `${plain(key)}=`)}${valueText(value)}`).join(' ')
  }

  function errorRows(error: unknown, opening: string): string[] {
    if (!isRecord(error) || typeof error.message !== 'string') return []
    const { type, message, code, stack, cause, errors } = error
    const suffix = code === undefined ? '' : ` (${plain(code)})`
    return [
      `  ${opening}${paint('red', `${plain(type)}: ${plain(message)}`)}${suffix}`,
      ...ownFrames(stack).map((frame) => paint('dim', `    ${frame}`)),
      ...(Array.isArray(errors) ? errors.flatMap((part) => errorRows(part, 'one of them: ')) : []),
      ...errorRows(cause, 'caused by ')
    ]
  }

  return (line) => {
    const fields = parsed(line)
    return fields ? `${[rowOf(fields), ...errorRows(fields[errorKey], '')].join('\n')}\n` : line
  }
}

/** A line that a hook of the user's has changed may be no JSON. */
function parsed(line: string): Fields | undefined {
  try {
    const fields: unknown = JSON.parse(line)
    return isRecord(fields) ? fields : undefined
  } catch {
    return undefined
  }
}

function clock(time: unknown): string {
  const date = typeof time === 'string' || typeof time === 'number' ? new Date(time) : undefined
  if (!date || Number.isNaN(date.getTime())) return plain(time)
  const [hours, minutes, seconds] = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) =>
    String(part).padStart(2, '0')
  )
  return `${hours}:${minutes}:${seconds}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

function valueText(value: unknown): string {
  return plain(typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value))
}

/** Text that can neither begin a row of its own nor steer the terminal. */
function plain(value: unknown): string {
  if (value === undefined || value === null) return ''
  return stripVTControlCharacters(String(value)).replace(CONTROLS, (control) => JSON.stringify(control).slice(1, -1))
}

/** The frames of the application, relative to where it was started; the first one of all where it has none. */
function ownFrames(stack: unknown): string[] {
  if (typeof stack !== 'string') return []
  const frames = stack.split('\n').flatMap((row) => (/^ +at /.test(row) ? [row.trim()] : []))
  const own = frames.filter((frame) => !FOREIGN_FRAME.test(frame))
  const shown = own.length > 0 ? own.slice(0, MAX_FRAMES) : frames.slice(0, 1)
  return shown.map((frame) => plain(frame.replace(`file://${process.cwd()}/`, '').replace(`${process.cwd()}/`, '')))
}
