import { types } from 'node:util'
import { isRecord, type Redactor } from '@fastify-observability/observation/internal'
import { shortened } from './caller-text.ts'
import { type ErrorFields, errorFields, isError } from './error.ts'
import { RESERVED_NAMES } from './fields.ts'
import { interpolate } from './message.ts'

/** A plain deep copy: nobody's code runs when it is read. */
export type Fields = Record<string, unknown>

/** What pino has only to write. */
type SafeArgs = [fields: Fields | undefined, message: string | undefined]

export interface Safe {
  /**
   * Makes what was passed to a log method safe. Never throws.
   *
   * Errors become `err`, requests and replies keep method, path and status, secrets are redacted, and what is too deep,
   * wide or long is cut. A field that the line has for itself gets an underscore: `level` becomes `level_`.
   * @param serializers as pino's: by top-level key, functions from the value passed to what is logged of it.
   * @param stringify how an object becomes part of a message; it receives a safe copy.
   */
  args(passed: readonly unknown[], serializers?: Fields, stringify?: Stringify): SafeArgs
  /** Makes the bindings of a child logger safe. Never throws. */
  fields(bindings: unknown, serializers?: Fields): Fields
  /** A safe copy of any value. Never throws. */
  copy(value: unknown): unknown
  /** Text without secrets, not too long, on one line. */
  text(text: string): string
}

type Stringify = (value: object) => string

/** Where a pino writes its message and its error. */
export interface LineKeys {
  messageKey: string
  errorKey: string
}

const MAX_DEPTH = 8
const MAX_WIDTH = 1_000
const MAX_ENTRIES = 10_000
const MAX_TEXT = 65_536
const MAX_CHARACTERS = 262_144
const MAX_KEY = 256
const MAX_KEY_REMEMBERED = 64
const MAX_REMEMBERED = 2_000
const MAX_BIGINT = 10n ** 100n
const UNREADABLE = '[unreadable]'

// Line ends that JSON does not escape, and the control characters beside them.
const LOOSE_CONTROLS = /[\u007f-\u009f\u2028\u2029]/
const LOOSE_LINE_ENDS = /[\u0085\u2028\u2029]/g

const HTTP_KEYS = new Set(['req', 'res', 'request', 'reply'])

/** What one call may still take, and the objects around the value in hand. */
interface Call {
  readonly stringify: Stringify
  entries: number
  characters: number
  readonly path: object[]
}

/** What a key is called in the line. */
interface Name {
  text: string
  isSecret: boolean
  /** Whether another key of the same object may have the same name. */
  isShared: boolean
}

export const PINO_KEYS: LineKeys = { messageKey: 'msg', errorKey: 'err' }

export function createSafe(redactor: Redactor, { messageKey, errorKey }: LineKeys = PINO_KEYS): Safe {
  // `hasOwnProperty` is called by pino on the bindings of a child.
  const reserved = [...RESERVED_NAMES.filter((name) => name !== 'msg'), messageKey, 'hasOwnProperty']
  const nameOf = createNames(redactor, new Set())
  const topNameOf = createNames(redactor, new Set(reserved))
  const ownMessageKey = `${messageKey}_`

  function args(passed: readonly unknown[], serializers?: Fields, stringify?: Stringify): SafeArgs {
    const call = newCall(stringify)
    try {
      const [first] = passed
      if (isRecord(first)) return withMessage(copyTop(first, serializers, call), passed, 1, call)
      return withMessage(undefined, passed, first === undefined || first === null ? 1 : 0, call)
    } catch {
      return [undefined, UNREADABLE]
    }
  }

  function fields(bindings: unknown, serializers?: Fields): Fields {
    return isRecord(bindings) ? copyTop(bindings, serializers, newCall()) : {}
  }

  function withMessage(fields: Fields | undefined, passed: readonly unknown[], index: number, call: Call): SafeArgs {
    const first = passed[index]
    if (typeof first === 'string') {
      if (passed.length === index + 1) return [fields, clean(first, call)]
      const values = passed.slice(index + 1)
      const [message, used] = interpolate(first, values, (value) => describe(value, call))
      // log.error('it failed', error)
      const error = fields?.[errorKey] === undefined ? values.slice(used).find(isError) : undefined
      return [error === undefined ? fields : { ...fields, [errorKey]: errorOf(error, call) }, clean(message, call)]
    }
    if (first !== undefined && first !== null) {
      if (!isError(first) || fields?.[errorKey] !== undefined) return [fields, clean(describe(first, call), call)]
      const error = errorOf(first, call)
      return [{ ...fields, [errorKey]: error }, error.message]
    }
    const own = fields?.[ownMessageKey]
    if (fields && typeof own === 'string') {
      const { [ownMessageKey]: _, ...others } = fields
      return [others, own]
    }
    const error = fields?.[errorKey]
    if (isRecord(error) && typeof error.message === 'string') return [fields, error.message]
    // A serializer may have left the message out.
    const thrown = error === undefined ? undefined : thrownIn(passed[0])
    return [fields, isError(thrown) ? errorOf(thrown, call).message : undefined]
  }

  function thrownIn(first: unknown): unknown {
    return isError(first) || !isRecord(first) ? first : get(first, errorKey)
  }

  function copyTop(value: Fields, serializers: Fields | undefined, call: Call): Fields {
    call.path.push(value)
    try {
      if (isError(value)) return copyTopEntries({ [errorKey]: value }, serializers, call)
      const http = isPlain(value) ? undefined : httpFields(value)
      if (http) return { [http.status_code === undefined ? 'req' : 'res']: copyEntries(http, call) }
      const special = copySpecial(value, '', call)
      if (special !== undefined) return { value: special }
      const source = jsonOf(value, '')
      return isRecord(source) && (source === value || isPlain(source))
        ? copyTopEntries(source, serializers, call)
        : { value: copy(source, '', call) }
    } catch {
      return { value: UNREADABLE }
    } finally {
      call.path.pop()
    }
  }

  function copyTopEntries(source: Fields, serializers: Fields | undefined, call: Call): Fields {
    const copied: Fields = {}
    let width = 0
    for (const key in source) {
      if (!Object.hasOwn(source, key)) continue
      if (width++ === MAX_WIDTH || call.entries-- <= 0) {
        copied['…'] = '[more]'
        break
      }
      const name = topNameOf(key)
      let value = get(source, key)
      const serializer = serializers && serializerOf(serializers, key)
      if (serializer) value = serialized(serializer, value)
      else if (key === errorKey && value !== undefined && !name.isSecret) {
        copied[errorKey] = errorOf(value, call)
        continue
      } else if (HTTP_KEYS.has(key) && isRecord(value)) value = httpFields(value) ?? value
      put(copied, name, key, value, call)
    }
    return copied
  }

  function serializerOf(serializers: Fields, key: string): ((value: unknown) => unknown) | undefined {
    // As pino has it: the one for `err` is for errors, whatever their key.
    const name = key === errorKey && !Object.hasOwn(serializers, key) ? 'err' : key
    const serializer = Object.hasOwn(serializers, name) ? serializers[name] : undefined
    return isSerializer(serializer) ? serializer : undefined
  }

  function copyEntries(source: Fields, call: Call): Fields {
    const copied: Fields = {}
    let width = 0
    for (const key in source) {
      if (!Object.hasOwn(source, key)) continue
      if (width++ === MAX_WIDTH || call.entries-- <= 0) {
        copied['…'] = '[more]'
        break
      }
      // { name: 'authorization', value: '…' }
      const isNamedSecret = key === 'value' && isSecretName(get(source, 'name') ?? get(source, 'key'))
      put(copied, nameOf(key), key, isNamedSecret ? redactor.replacement : get(source, key), call)
    }
    return copied
  }

  function put(copied: Fields, name: Name, key: string, value: unknown, call: Call): void {
    const safe = name.isSecret && isTelling(value) ? redactor.replacement : copy(value, key, call)
    if (safe !== undefined) copied[name.isShared ? freeName(copied, name.text) : name.text] = safe
  }

  function copy(value: unknown, key: string, call: Call): unknown {
    switch (typeof value) {
      case 'string':
        return clean(value, call)
      case 'object':
        return isRecord(value) ? copyObject(value, key, call) : null
      case 'bigint':
        return value < MAX_BIGINT && value > -MAX_BIGINT ? String(value) : '[bigint]'
      case 'symbol':
        return clean(String(value), call)
      case 'number':
      case 'boolean':
        return value
    }
    return undefined
  }

  function copyObject(value: Fields, key: string, call: Call): unknown {
    if (call.path.includes(value)) return '[circular]'
    if (call.path.length > MAX_DEPTH) return '[too deep]'
    call.path.push(value)
    try {
      const special = copySpecial(value, key, call)
      if (special !== undefined) return special
      const source = jsonOf(value, key)
      return isRecord(source) && (source === value || isPlain(source))
        ? copyEntries(source, call)
        : copy(source, key, call)
    } catch {
      return UNREADABLE
    } finally {
      call.path.pop()
    }
  }

  /** What the language and Node have beside plain objects; `undefined` for what is copied entry by entry. */
  function copySpecial(value: Fields, key: string, call: Call): unknown {
    if (Array.isArray(value)) return copyArray(value, value.length, key, call)
    if (isPlain(value)) return undefined
    if (isError(value)) return errorOf(value, call)
    if (types.isDate(value)) return isoTime(value)
    if (types.isMap(value)) return copyMap(value, call)
    if (types.isSet(value)) return copyArray(firstOf(Set.prototype.values.call(value)), value.size, key, call)
    if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return `[${value.byteLength} bytes]`
    if (types.isRegExp(value)) return clean(RegExp.prototype.toString.call(value), call)
    if (types.isBoxedPrimitive(value)) return copy(unboxed(value), key, call)
    const http = httpFields(value)
    return http && copyEntries(http, call)
  }

  function copyArray(items: unknown[], length: unknown, key: string, call: Call): unknown[] {
    const size = Number(length)
    const isPair = size === 2 && typeof itemAt(items, 1) === 'string'
    const copied: unknown[] = []
    for (let index = 0; index < size; index++) {
      if (index === MAX_WIDTH || call.entries-- <= 0) {
        copied.push(`…[${size - index} more]`)
        break
      }
      // ['authorization', '…'], and Node's rawHeaders
      const isSecret = index % 2 === 1 && (isPair || key === 'rawHeaders') && isSecretName(itemAt(items, index - 1))
      copied.push(isSecret ? redactor.replacement : (copy(itemAt(items, index), '', call) ?? null))
    }
    return copied
  }

  function copyMap(map: Map<unknown, unknown>, call: Call): Fields {
    const copied: Fields = {}
    for (const [key, value] of firstOf(Map.prototype.entries.call(map))) {
      const text = describe(key, call)
      put(copied, nameOf(text), text, value, call)
    }
    if (map.size > MAX_WIDTH) copied['…'] = '[more]'
    return copied
  }

  // A name alone says nothing under an allow-list: it is asked for in text, where the default names are in force.
  function isSecretName(name: unknown): boolean {
    if (typeof name !== 'string' || name.length > MAX_KEY_REMEMBERED) return false
    return redactor.text(`${name}=x`) !== `${name}=x`
  }

  function errorOf(error: unknown, call: Call): ErrorFields {
    return errorFields(error, { text: (text) => clean(text, call), describe: (value) => describe(value, call) })
  }

  /** For the text of a message: strings as they are, which are cleaned with the whole of it. */
  function describe(value: unknown, call: Call): string {
    if (typeof value === 'string') return value
    if (typeof value === 'function') return '[function]'
    if (isError(value)) {
      const { type, message } = errorOf(value, call)
      return `${type}: ${message}`
    }
    const copied = copy(value, '', call)
    return isRecord(copied) ? call.stringify(copied) : String(copied)
  }

  function clean(text: string, call: Call): string {
    const room = Math.min(MAX_TEXT, call.characters)
    const over = text.length - room
    call.characters -= Math.min(text.length, room)
    return (
      escapeLoose(redactor.text(over > 0 ? text.slice(0, room) : text)) + (over > 0 ? `…[${over} more characters]` : '')
    )
  }

  return { args, fields, copy: (value) => copy(value, '', newCall()), text: (text) => clean(text, newCall()) }
}

function newCall(stringify: Stringify = JSON.stringify): Call {
  return { stringify, entries: MAX_ENTRIES, characters: MAX_CHARACTERS, path: [] }
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

function get(source: Fields, key: string): unknown {
  try {
    return source[key]
  } catch {
    return UNREADABLE
  }
}

function itemAt(items: unknown[], index: number): unknown {
  try {
    return items[index]
  } catch {
    return UNREADABLE
  }
}

/** As much of a Map or a Set as is copied. */
function firstOf<Item>(items: Iterable<Item>): Item[] {
  const first: Item[] = []
  for (const item of items) {
    if (first.push(item) === MAX_WIDTH) break
  }
  return first
}

function createNames(redactor: Redactor, reserved: Set<string>): (key: string) => Name {
  const known = new Map<string, Name>()

  function textOf(key: string): string {
    if (key === '__proto__' || reserved.has(key)) return `${key}_`
    return escapeLoose(redactor.text(key.length > MAX_KEY ? `${key.slice(0, MAX_KEY)}…` : key))
  }

  return (key) => {
    const before = known.get(key)
    if (before) return before
    const text = textOf(key)
    const name = { text, isSecret: redactor.isSecret(key), isShared: text !== key || key.endsWith('_') }
    if (known.size >= MAX_REMEMBERED) known.clear()
    if (key.length <= MAX_KEY_REMEMBERED) known.set(key, name)
    return name
  }
}

function freeName(copied: Fields, name: string): string {
  let free = name
  while (Object.hasOwn(copied, free)) free += '_'
  return free
}

// That there is no password, or an empty one, is no secret.
function isTelling(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '' && typeof value !== 'boolean'
}

function jsonOf(value: Fields, key: string): unknown {
  try {
    const { toJSON } = value
    return typeof toJSON === 'function' ? Reflect.apply(toJSON, value, [key]) : value
  } catch {
    return value
  }
}

function serialized(serializer: (value: unknown) => unknown, value: unknown): unknown {
  try {
    return serializer(value)
  } catch {
    return UNREADABLE
  }
}

function isSerializer(value: unknown): value is (value: unknown) => unknown {
  return typeof value === 'function'
}

/** The name under which a request or reply is logged that is passed alone, `undefined` for anything else. */
export function httpName(value: Fields): 'req' | 'res' | undefined {
  const fields = isPlain(value) ? undefined : httpFields(value)
  if (!fields) return undefined
  return fields.status_code === undefined ? 'req' : 'res'
}

/** What is logged of a request or reply, of Fastify or Node, received or sent. */
function httpFields(value: Fields): Fields | undefined {
  if (!isRecord(get(value, 'headers')) && typeof get(value, 'getHeader') !== 'function') return undefined
  const method = get(value, 'method')
  const statusCode = get(value, 'statusCode')
  if (typeof method === 'string') return { method, path: pathOf(get(value, 'url') ?? get(value, 'path')) }
  return typeof statusCode === 'number' ? { status_code: statusCode } : undefined
}

function pathOf(url: unknown): string | undefined {
  return typeof url === 'string' ? shortened(url.split('?', 1)[0] ?? '') : undefined
}

function isoTime(date: Date): string {
  const time = Date.prototype.getTime.call(date)
  return Number.isNaN(time) ? '[invalid date]' : new Date(time).toISOString()
}

function unboxed(value: object): unknown {
  if (types.isNumberObject(value)) return Number.prototype.valueOf.call(value)
  if (types.isStringObject(value)) return String.prototype.valueOf.call(value)
  if (types.isBooleanObject(value)) return Boolean.prototype.valueOf.call(value)
  if (types.isBigIntObject(value)) return BigInt.prototype.valueOf.call(value)
  return types.isSymbolObject(value) ? Symbol.prototype.valueOf.call(value) : undefined
}

/** Text whose line ends JSON escapes, all of them: over HTTP/2 a path may have any. */
export function escapeLoose(text: string): string {
  if (!LOOSE_CONTROLS.test(text)) return text
  return text.replace(LOOSE_LINE_ENDS, '\n').replace(/[\u007f-\u009f]/g, '\ufffd')
}
