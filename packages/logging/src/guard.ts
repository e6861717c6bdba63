import { isRecord } from '@fastify-observability/observation/internal'
import { type ChildLoggerOptions, type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino'
import { isError } from './error.ts'
import { type ExistingPino, propertyOf, setInternal } from './existing-pino.ts'
import { type Fields, httpName, type Safe } from './safe.ts'

type LogMethod = NonNullable<NonNullable<LoggerOptions['hooks']>['logMethod']>
type LogFunction = Parameters<LogMethod>[1]

/** What becomes of each line. A function that is set later counts from then on. */
export interface LineEvents {
  /** Is called for a line that pino could not make. */
  lost?(error: unknown): void
  /** Is called for the others. */
  written?(logger: Logger, level: number, message: string | undefined, fields: Fields | undefined): void
  /** Is called before anything is made of a line: `true` for one that goes nowhere. */
  isIgnored?(logger: Logger, level: number): boolean
  /** Is called before the line is written: `true` for one below the level, which pino does not write. */
  isBelow?(logger: Logger, level: number, message: string | undefined, fields: Fields | undefined): boolean
  /** Is called when a function of the user's has thrown, without which the line is made. */
  failed?(error: unknown): void
}

type Reported = Pick<LineEvents, 'written' | 'isBelow' | 'isIgnored'>

/** What the suite adds to a pino that is there. */
export interface Additions {
  level: string
  bindings: string
  /** Undefined where the pino has a timestamp of its own. */
  time: (() => string) | undefined
  mixin: (fields: object, level: number, logger: Logger) => object
  stream: DestinationStream
}

const SERIALIZERS = Symbol('fastify-observability.logging.serializers')
const UNREPORTED_LINES: Reported = {}
const UNREPORTED = Symbol('fastify-observability.logging.unreported')

/**
 * A pino that only ever sees safe arguments, in its log methods and in the bindings of its children. Serializers get the
 * values as they were passed. What still throws inside pino, such as a `redact` of the user's, loses the line only.
 */
export function guardedPino(
  safe: Safe,
  { serializers, hooks, ...options }: LoggerOptions,
  stream: DestinationStream,
  events: LineEvents = {}
): Logger {
  const methodFor = (reported: Reported): LogMethod =>
    function (args, method, level) {
      try {
        if (reported.isIgnored?.(this, level)) return
        const passed = safe.args(args, serializersOf(this))
        if (reported.isBelow?.(this, level, passed[1], passed[0])) return
        method.apply(this, passed)
        reported.written?.(this, level, passed[1], passed[0])
      } catch (error) {
        events.lost?.(error)
      }
    }
  // Safe fields need no more of it; pino's own takes `err` apart again.
  const own = { ...options, serializers: { err: identity }, hooks: { ...hooks, logMethod: methodFor(events) } }
  return guardChildren(pino(own, stream), safe, serializers, methodFor(UNREPORTED_LINES))
}

/** The same of a pino that is there, which itself stays as it is. */
export function guardedCopy(
  safe: Safe,
  existing: ExistingPino,
  { level, bindings, time, mixin, stream }: Additions,
  events: LineEvents = {}
): Logger {
  const logger: Logger = Object.create(existing.logger)
  const { formatLevel = labelled, hooks, serializers } = existing
  const hook = functionOf(hooks.logMethod)

  function write(
    this: Logger,
    args: readonly unknown[],
    method: LogFunction,
    number: number,
    reported: Reported
  ): void {
    try {
      if (reported.isIgnored?.(this, number)) return
      const prepared = isPrepared ? prepare(existing, this, args, number, events.failed) : args
      const passed = safe.args(prepared, serializersOf(this), (value) => stringify(this, value))
      if (reported.isBelow?.(this, number, passed[1], passed[0])) return
      method.apply(this, passed)
      reported.written?.(this, number, passed[1], passed[0])
    } catch (error) {
      events.lost?.(error)
    }
  }

  const isPrepared = existing.mixin !== undefined || existing.formatLog !== undefined
  const methodFor = (reported: Reported): LogMethod =>
    function (args, method, number) {
      if (!hook) return write.call(this, args, method, number, reported)
      try {
        const guarded = (...passed: unknown[]): void => write.call(this, passed, method, number, reported)
        Reflect.apply(hook, this, [args, guarded, number])
      } catch (error) {
        events.failed?.(error)
        write.call(this, args, method, number, reported)
      }
    }

  setInternal(logger, 'hooks', { ...hooks, logMethod: methodFor(events) })
  setInternal(logger, 'serializers', { err: identity })
  setInternal(logger, 'formatters', { level: formatLevel, bindings: identity, log: undefined })
  setInternal(logger, 'lsCache', levelTexts(logger, formatLevel))
  setInternal(logger, 'mixin', mixin)
  setInternal(logger, 'mixinMergeStrategy', ownLast)
  setInternal(logger, 'chindings', bindings)
  setInternal(logger, 'stream', stream)
  if (time) setInternal(logger, 'time', time)
  // Makes the log methods anew, with the hook.
  logger.level = level
  return guardChildren(logger, safe, serializers, methodFor(UNREPORTED_LINES))
}

/** Runs what pino would run before the serializers, on the values as they were passed. */
function prepare(
  { mixin, mixinMergeStrategy, formatLog, errorKey }: ExistingPino,
  logger: Logger,
  args: readonly unknown[],
  level: number,
  failed: LineEvents['failed']
): readonly unknown[] {
  try {
    const [first, ...others] = args
    let fields = fieldsOf(first, errorKey)
    if (mixin) {
      const mixed = mixin(fields, level, logger)
      if (mixed instanceof Promise) mixed.catch((error) => failed?.(error))
      fields = mixinMergeStrategy(fields, mixed)
    }
    if (formatLog) fields = formatLog(fields)
    return isRecord(first) || first === undefined || first === null ? [fields, ...others] : [fields, ...args]
  } catch (error) {
    failed?.(error)
    return args
  }
}

function fieldsOf(first: unknown, errorKey: string): object {
  if (!isRecord(first)) return {}
  if (isError(first)) return { [errorKey]: first }
  const name = httpName(first)
  return name ? { [name]: first } : first
}

function stringify(logger: Logger, value: object): string {
  const options = propertyOf(logger, 'formatOpts')
  const redacting = isRecord(options) ? functionOf(options.stringify) : undefined
  const text: unknown = redacting ? Reflect.apply(redacting, undefined, [value]) : JSON.stringify(value)
  return String(text)
}

function levelTexts({ levels }: Logger, format: (label: string, level: number) => object): Record<string, string> {
  const texts = Object.entries(levels.labels).map(([level, label]) => {
    return [level, JSON.stringify(format(label, Number(level))).slice(0, -1)]
  })
  return Object.fromEntries(texts)
}

/** Nobody's own field can pass for the request's. The fields are a copy already. */
export function ownLast(fields: object, own: object): object {
  return Object.assign(fields, own)
}

function labelled(label: string): object {
  return { level: label }
}

function guardChildren(logger: Logger, safe: Safe, serializers: Fields | undefined, unreported: LogMethod): Logger {
  const { child, setBindings } = logger
  return Object.assign(logger, {
    [SERIALIZERS]: serializers,
    [UNREPORTED]: unreported,
    // pino's formatters.bindings sees the bindings of the first logger only.
    child(bindings: unknown, childOptions?: ChildLoggerOptions | null): Logger {
      const { serializers: further, ...rest } = childOptions ?? {}
      const own = further ? withInherited(serializersOf(this), further) : serializersOf(this)
      const made: Logger = Reflect.apply(child, this, [safe.fields(bindings, own), rest])
      return further ? Object.assign(made, { [SERIALIZERS]: own }) : made
    },
    setBindings(bindings: unknown): void {
      Reflect.apply(setBindings, this, [safe.fields(bindings, serializersOf(this))])
    }
  })
}

/** Fastify has the serializers of a route inherit those of its prefix. */
function withInherited(known: Fields | undefined, further: Fields): Fields {
  const all: Fields = { ...known }
  for (const key in further) all[key] = further[key]
  return all
}

/** What `hooks.logMethod` is of a logger whose lines are not reported. */
export function unreportedMethod(logger: object): unknown {
  return UNREPORTED in logger ? logger[UNREPORTED] : undefined
}

/** The serializers of a logger, its parents' included. */
export function serializersOf(logger: object): Fields | undefined {
  const own: unknown = SERIALIZERS in logger ? logger[SERIALIZERS] : undefined
  return isRecord(own) ? own : undefined
}

function functionOf(value: unknown): ((...args: unknown[]) => unknown) | undefined
function functionOf(value: unknown): unknown {
  return typeof value === 'function' ? value : undefined
}

function identity(value: unknown): unknown {
  return value
}
