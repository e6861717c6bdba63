import {
  currentScope,
  documented,
  isRecord,
  type RequestObservation,
  runIn
} from '@fastify-observability/observation/internal'
import { type Context, context, createContextKey, ROOT_CONTEXT, trace } from '@opentelemetry/api'
import type { Logger } from 'pino'
import { ancestorOf, contextFields, fieldsOf, requestOf } from './context.ts'
import { asksForMetadata, METADATA, symbolOf } from './existing-pino.ts'
import { serializersOf, unreportedMethod } from './guard.ts'
import {
  type HeldLine,
  isPlain,
  isScalar,
  LineBuffer,
  Particulars,
  takeBuffer,
  type WrittenLine
} from './line-buffer.ts'
import { type Journal, timeField } from './logger.ts'
import type { Fields } from './safe.ts'

/** The lines below the level of a root logger and its children, until it is known of each request whether they are wanted. */
export interface HeldLines {
  /** Finds out who manages OpenTelemetry's contexts. Called when all plugins have loaded. */
  prepare(): void
  /** Holds the lines of the request from now on. */
  begin(observation: RequestObservation): void
  /**
   * Writes the lines that are held of the request, or forgets them.
   * @returns whether there were lines to write.
   */
  end(observation: RequestObservation, isKept: boolean): boolean
  /** Writes a line that is below the level of its logger. */
  write(logger: Logger, level: string, fields: object, message: string, observation: RequestObservation): void
}

type Method = (this: Logger, first?: unknown, second?: unknown, ...others: unknown[]) => void

const PROBE = createContextKey('fastify-observability.logging.probe')
const known = new WeakMap<Logger, HeldLines>()

/** Has the logger, those beside it and their children hold the lines below their level, where they belong to a request. */
export function holdLines(logger: Logger, { count, lose, isDeferrable, isListening, writes }: Journal): HeldLines {
  const root = ancestorOf(logger)
  const before = known.get(root)
  if (before) return before
  const setLevel = internalOf(root, 'setLevel')
  const hooks = internalOf(root, 'hooks')
  const chindings = internalOf(root, 'chindings')
  const time = internalOf(root, 'time')
  const mixin = internalOf(root, 'mixin')
  const stream = internalOf(root, 'stream')
  const errorKey = String(Reflect.get(root, internalOf(root, 'errorKey')))
  const { setBindings } = root
  const pinoSetLevel: unknown = Reflect.get(root, setLevel)
  const methods = new Map<number, Method>()
  let contextOf = askedContext

  /** The same logger, which writes lines of the level whatever its own is, and reports none. */
  function viewOf(logger: Logger, label: string, fields: () => object): Logger {
    const view: Logger = Object.create(logger)
    Reflect.set(view, hooks, { ...Object(Reflect.get(logger, hooks)), logMethod: unreportedMethod(logger) })
    Reflect.set(view, mixin, fields)
    // Nobody has changed a level.
    Reflect.set(view, 'emit', () => false)
    call(pinoSetLevel, view, [label])
    return view
  }

  function writeLine(
    { logger, level, time: at, fields, particulars }: HeldLine,
    observation: RequestObservation
  ): void {
    const { context: active, bindings, written } = particulars
    const label = labelOf(logger, level)
    if (written) {
      count(label)
      writeText(logger, written)
      return
    }
    const span = (active && trace.getSpan(active)?.spanContext()) ?? observation.spanContext
    const view = viewOf(logger, label, () => {
      count(label)
      return { ...fieldsOf(observation, span), held: true }
    })
    Reflect.set(view, time, () => timeField(at))
    if (bindings !== undefined) Reflect.set(view, chindings, bindings)
    call(Reflect.get(view, label), view, argsOf(fields, particulars))
  }

  function writeText(logger: Logger, { text, write: _, ...metadata }: WrittenLine): void {
    const target: unknown = Reflect.get(logger, stream)
    if (!isRecord(target)) return
    if (asksForMetadata(target)) Object.assign(target, metadata)
    call(target.write, target, [text])
  }

  /** The line as it is now, of values that may change or by functions of the user's. */
  function made(logger: Logger, level: number, args: readonly unknown[]): WrittenLine | undefined {
    const target: unknown = Reflect.get(logger, stream)
    const written: WrittenLine = {
      text: undefined,
      write(line) {
        written.text = line
      }
    }
    if (isRecord(target)) Reflect.set(written, METADATA, Reflect.get(target, METADATA))
    const label = labelOf(logger, level)
    const view = viewOf(logger, label, () => ({ ...contextFields(logger), held: true }))
    Reflect.set(view, stream, written)
    call(Reflect.get(view, label), view, args)
    return written.text === undefined ? undefined : written
  }

  /** Holds any line. */
  function holdAny(
    lines: LineBuffer,
    observation: RequestObservation,
    logger: Logger,
    level: number,
    ...args: readonly unknown[]
  ): void {
    if (isDeferrable && holdData(lines, observation, logger, level, args)) return
    const written = made(logger, level, args)
    if (written) lines.add(logger, level, undefined, new Particulars(undefined, undefined, undefined, written))
  }

  function holdData(
    lines: LineBuffer,
    observation: RequestObservation,
    logger: Logger,
    level: number,
    args: readonly unknown[]
  ): boolean {
    const first = args[0]
    const fields = isRecord(first) && isPlain(first) ? first : undefined
    const [message, ...values] = fields ? args.slice(1) : args
    if (typeof message !== 'string' && !(fields && args.length === 1)) return false
    if (!values.every(isScalar) || (fields && hasSerializer(fields, logger, errorKey))) return false
    const text = typeof message === 'string' ? message : undefined
    const active = contextOf(observation)
    const isSimple = active === undefined && values.length === 0
    return lines.add(logger, level, fields, isSimple ? text : new Particulars(text, values, active))
  }

  /** Holds a line of the form that nearly all have: fields of data, a message, or both. */
  function holdUsual(
    lines: LineBuffer,
    observation: RequestObservation,
    logger: Logger,
    level: number,
    first: unknown,
    second: unknown
  ): boolean {
    if (!isDeferrable || contextOf(observation) !== undefined) return false
    if (typeof first === 'string') return second === undefined && lines.add(logger, level, undefined, first)
    if (typeof second !== 'string' || !isRecord(first) || !isPlain(first)) return false
    return !hasSerializer(first, logger, errorKey) && lines.add(logger, level, first, second)
  }

  function methodFor(level: number): Method {
    return function hold(first?: unknown, second?: unknown, ...others: unknown[]): void {
      try {
        const observation = requestOf(this)
        const lines = observation?.heldLines
        if (!observation || !(lines instanceof LineBuffer)) return
        if (others.length === 0 && holdUsual(lines, observation, this, level, first, second)) return
        if (others.length > 0) holdAny(lines, observation, this, level, first, second, ...others)
        else if (second === undefined) holdAny(lines, observation, this, level, first)
        else holdAny(lines, observation, this, level, first, second)
      } catch {
        // A method that was taken from its logger belongs to nobody.
      }
    }
  }

  /** Has the methods that write nothing hold what they are given. A silent logger stays so. */
  function install(logger: Logger): void {
    if (logger.levelVal === Number.POSITIVE_INFINITY) return
    for (const [label, level] of Object.entries(logger.levels.values)) {
      if (writes(logger, label)) continue
      const hold = methods.get(level) ?? methodFor(level)
      methods.set(level, hold)
      Reflect.set(logger, label, isListening() ? inTurn(hold, Reflect.get(logger, label)) : hold)
    }
  }

  Reflect.set(root, setLevel, function (this: Logger, level: unknown): void {
    call(pinoSetLevel, this, [level])
    install(this)
  })
  root.setBindings = function (this: Logger, bindings): void {
    const lines = requestOf(this)?.heldLines
    if (lines instanceof LineBuffer) lines.fixBindings(this, Reflect.get(this, chindings))
    call(setBindings, this, [bindings])
  }
  install(root)

  const held: HeldLines = {
    prepare() {
      contextOf = contextSource()
    },
    begin(observation) {
      observation.heldLines = takeBuffer()
    },
    end(observation, isKept) {
      const lines = observation.heldLines
      observation.heldLines = undefined
      if (!(lines instanceof LineBuffer)) return false
      const held = isKept ? lines.all() : []
      for (const line of held) writeLine(line, observation)
      if (isKept && lines.missing > 0) lose('held_full', lines.missing)
      lines.release()
      return held.length > 0
    },
    write(logger, label, fields, message, observation) {
      const level = logger.levels.values[label] ?? 0
      const line = { logger, level, time: Date.now(), fields: { ...fields }, particulars: new Particulars(message) }
      writeLine(line, observation)
    }
  }
  known.set(root, held)
  return held
}

function internalOf(root: Logger, name: string): symbol {
  const symbol = symbolOf(root, name)
  if (symbol) return symbol
  const words = `the option "keep" does not know this version of pino: no ${name}`
  throw documented(new Error(`@fastify-observability/logging: ${words}`), 'logger-and-log-file')
}

function call(method: unknown, target: object, args: readonly unknown[]): void {
  if (typeof method === 'function') Reflect.apply(method, target, args)
}

/** A method that holds a line, and one that reports it to a listener. */
function inTurn(hold: Method, listened: unknown): Method {
  return function (...args) {
    call(hold, this, args)
    call(listened, this, args)
  }
}

function labelOf({ levels }: Logger, level: number): string {
  return levels.labels[level] ?? 'info'
}

function argsOf(fields: Fields | undefined, { message, values = [] }: Particulars): readonly unknown[] {
  if (message === undefined) return [fields ?? {}]
  return fields ? [fields, message, ...values] : [message, ...values]
}

function hasSerializer(fields: Fields, logger: Logger, errorKey: string): boolean {
  const serializers = serializersOf(logger)
  if (serializers === undefined) return false
  if (errorKey in fields && Object.hasOwn(serializers, 'err')) return true
  for (const key in fields) if (Object.hasOwn(serializers, key)) return true
  return false
}

/** The context that a line of the request is logged in; `undefined` in another's. */
function askedContext(observation: RequestObservation): Context | undefined {
  return currentScope()?.observation === observation ? context.active() : undefined
}

/** How that context is found: in the scope, where tracing keeps it, by asking, or not at all where nobody manages contexts. */
function contextSource(): typeof askedContext {
  const probe = ROOT_CONTEXT.setValue(PROBE, true)
  const isActive = (): boolean => context.active() === probe
  if (!context.with(probe, isActive)) return () => undefined
  if (!runIn({ observation: undefined, context: probe }, isActive)) return askedContext
  return (observation) => {
    // Nearly all lines are of requests that have no other.
    if (!observation.hasInnerContexts) return undefined
    const scope = currentScope()
    return scope?.observation === observation && scope !== observation ? scope.context : undefined
  }
}
