import { Holding, Holdings, isRecord } from '@fastify-observability/observation/internal'
import type { Context } from '@opentelemetry/api'
import type { Logger } from 'pino'
import { isOurs } from './context.ts'
import type { Fields } from './safe.ts'

/** A line that went where nobody reads it, with what pino says of it to streams that ask. */
export interface WrittenLine {
  text: string | undefined
  write(line: string): void
}

/** What few lines have beside their fields and a message. */
export class Particulars {
  readonly message: string | undefined
  /** Of the placeholders in the message. */
  readonly values: readonly unknown[] | undefined
  /** The context that was active, where it was not the request's own. */
  readonly context: Context | undefined
  /** The bindings of the logger, where it has got others since. */
  bindings: unknown
  /** The line itself, where it was made when it was logged. */
  readonly written: WrittenLine | undefined

  constructor(message: string | undefined, values?: readonly unknown[], context?: Context, written?: WrittenLine) {
    this.message = message
    this.values = values
    this.context = context
    this.written = written
  }
}

/** A line that is held. */
export interface HeldLine {
  logger: Logger
  level: number
  time: number
  fields: Fields | undefined
  particulars: Particulars
}

const MAX_LINES = 64
const MAX_BYTES = 16 * 1024
const MAX_TOTAL_BYTES = 8 * 1024 * 1024
// About what they take in memory.
const LINE_BYTES = 96
const ENTRY_BYTES = 24
const MAX_DEPTH = 8

// A line takes so many slots, and two for each field.
const LOGGER = 0
const MESSAGE = 1
const LEVEL = 2
const TIME = 3
const BYTES = 4
const SIZE = 5
const HEAD = 6
const MAX_GAP = 512
const MAX_PREPARED = 256
const MAX_SPARE = 256
const NOTHING: unknown[] = []
const NO_FIELDS: Fields = {}

// Of all apps of the process.
const allLines = new Holdings({ maxBytes: MAX_BYTES, maxTotalBytes: MAX_TOTAL_BYTES })

// As many slots as requests have needed lately: an array that grows is copied.
let prepared = 0
// What a value that is copied takes. A result of several values would be an object more for each line.
let measured = 0

// Of requests that have ended: making one takes as long as holding two lines.
const spare: LineBuffer[] = []

/** An empty buffer, for one request. */
export function takeBuffer(): LineBuffer {
  return spare.pop() ?? new LineBuffer()
}

/**
 * The lines that are held of one request, with their values as they were. Every request may have some, and nearly none is
 * asked for them: they lie in one array, which takes half the time that an object for each line does.
 */
export class LineBuffer extends Holding {
  private slots = NOTHING
  private from = 0
  private used = 0
  private lines = 0
  private since = 0
  private isAdding = false

  constructor() {
    super(allLines)
  }

  /**
   * Holds a line, with copies of its fields.
   * @returns false where they are more than data, so that the line has to be made at once.
   */
  add(logger: Logger, level: number, fields: Fields | undefined, message: string | Particulars | undefined): boolean {
    // By a getter among the fields of the line that is being added.
    if (this.isAdding) {
      this.missing++
      return true
    }
    let isHeld = false
    this.isAdding = true
    try {
      isHeld = this.put(logger, level, fields, message)
    } catch {
      // A getter or a proxy of the user's.
    }
    this.isAdding = false
    return isHeld
  }

  /** Has the lines of the logger, which is about to get other bindings, keep these. */
  fixBindings(logger: Logger, bindings: unknown): void {
    for (const at of this.starts()) {
      if (this.slots[at + LOGGER] !== logger) continue
      const particulars = this.particularsAt(at)
      particulars.bindings ??= bindings
      this.slots[at + MESSAGE] = particulars
    }
  }

  /** The lines, in order. */
  all(): HeldLine[] {
    const { slots } = this
    return this.starts().flatMap((at) => {
      const logger = slots[at + LOGGER]
      if (!isRecord(logger) || !isOurs(logger)) return []
      const entries: [string, unknown][] = []
      const end = at + this.numberAt(at + SIZE)
      for (let entry = at + HEAD; entry < end; entry += 2) entries.push([String(slots[entry]), slots[entry + 1]])
      const fields = entries.length > 0 ? Object.fromEntries(entries) : undefined
      const time = this.since + this.numberAt(at + TIME)
      return [{ logger, level: this.numberAt(at + LEVEL), time, fields, particulars: this.particularsAt(at) }]
    })
  }

  /** Forgets what is held, and leaves the buffer to another request. */
  release(): void {
    prepared = Math.min(Math.max(this.used, prepared - 1), MAX_PREPARED)
    this.removed(this.bytes)
    this.slots = NOTHING
    this.from = this.used = this.lines = this.missing = 0
    if (spare.length < MAX_SPARE) spare.push(this)
  }

  protected override forgetOldest(): void {
    const { slots, from } = this
    const bytes = this.numberAt(from + BYTES)
    this.from += this.numberAt(from + SIZE)
    slots.fill(undefined, from, this.from)
    this.lines--
    if (this.from > MAX_GAP) {
      slots.splice(0, this.from)
      this.used -= this.from
      this.from = 0
    }
    this.removed(bytes)
  }

  private put(
    logger: Logger,
    level: number,
    fields: Fields | undefined,
    message: string | Particulars | undefined
  ): boolean {
    const start = this.used
    if (start === 0) {
      if (fields && hasInheritedNames()) return false
      this.slots = new Array(prepared)
    }
    const { slots } = this
    let at = start + HEAD
    let bytes = LINE_BYTES
    if (message !== undefined) bytes += typeof message === 'string' ? message.length : sizeOf(message)
    for (const key in fields) {
      const value = fields[key]
      bytes += ENTRY_BYTES + key.length
      slots[at++] = key
      if (typeof value === 'number') {
        slots[at++] = value
      } else if (typeof value === 'string') {
        bytes += value.length
        slots[at++] = value
      } else {
        measured = bytes
        const copy = copyOf(value, 1)
        bytes = measured
        if (copy === undefined && value !== undefined && bytes <= MAX_BYTES) return false
        slots[at++] = copy
      }
    }
    if (bytes > MAX_BYTES) {
      this.missing++
      return true
    }
    const now = Date.now()
    if (start === 0) this.since = now
    slots[start + LOGGER] = logger
    slots[start + MESSAGE] = message
    slots[start + LEVEL] = level
    // A small number takes no memory of its own.
    slots[start + TIME] = now - this.since
    slots[start + BYTES] = bytes
    slots[start + SIZE] = at - start
    this.used = at
    this.lines++
    this.added(bytes)
    if (this.lines > MAX_LINES) this.dropOldest()
    return true
  }

  private starts(): number[] {
    const starts: number[] = []
    for (let at = this.from; at < this.used; at += this.numberAt(at + SIZE)) starts.push(at)
    return starts
  }

  private numberAt(at: number): number {
    return Number(this.slots[at])
  }

  private particularsAt(at: number): Particulars {
    const message = this.slots[at + MESSAGE]
    return message instanceof Particulars ? message : new Particulars(typeof message === 'string' ? message : undefined)
  }
}

/** Whether every object seems to have fields, because somebody has given Object.prototype some. */
function hasInheritedNames(): boolean {
  for (const _ in NO_FIELDS) return true
  return false
}

function sizeOf({ message = '', values = [], written }: Particulars): number {
  return (
    values.reduce<number>((size, value) => size + ENTRY_BYTES + lengthOf(value), ENTRY_BYTES + message.length) +
    lengthOf(written?.text)
  )
}

function lengthOf(value: unknown): number {
  return typeof value === 'string' ? value.length : 0
}

/** A copy of data, at any depth, whose size is added to the line's; `undefined` for anything else. */
function copyOf(value: unknown, depth: number): unknown {
  if (isScalar(value)) {
    measured += lengthOf(value)
    return value
  }
  if (!isRecord(value) || depth > MAX_DEPTH || measured > MAX_BYTES) return undefined
  if (Array.isArray(value)) return copyOfArray(value, depth)
  return isPlain(value) ? copyOfFields(value, depth) : undefined
}

function copyOfFields(source: Fields, depth: number): Fields | undefined {
  const copy = { ...source }
  for (const key in copy) {
    const value = copy[key]
    measured += ENTRY_BYTES + key.length
    const inner = copyOf(value, depth + 1)
    if (inner === undefined && value !== undefined) return undefined
    copy[key] = inner
  }
  return copy
}

function copyOfArray(source: readonly unknown[], depth: number): unknown[] | undefined {
  measured += ENTRY_BYTES * source.length
  if (measured > MAX_BYTES) return undefined
  const copy: unknown[] = []
  for (const value of source) {
    const inner = copyOf(value, depth + 1)
    if (inner === undefined && value !== undefined) return undefined
    copy.push(inner)
  }
  return copy
}

/** Whether the value stays as it is. */
export function isScalar(value: unknown): boolean {
  const type = typeof value
  return type === 'object' ? value === null : type !== 'function' && type !== 'symbol'
}

/** Whether the object has nothing but its fields. */
export function isPlain(value: object): boolean {
  try {
    // V8 knows the prototype of an object that it has just read something of, and else has to ask its runtime.
    if (value.constructor === Object && Object.getPrototypeOf(value) === Object.prototype) return true
    const prototype: unknown = Object.getPrototypeOf(value)
    return prototype === Object.prototype || prototype === null
  } catch {
    // A proxy of the user's.
    return false
  }
}
