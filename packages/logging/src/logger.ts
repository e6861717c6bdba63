import type { LogLevel } from '@fastify-observability/observation'
import {
  atMostEvery,
  createRedactor,
  currentScope,
  type KeptFields,
  type LineListener,
  type Redactor,
  type RequestObservation,
  requireOf,
  resolveService,
  type Service,
  withDocs
} from '@fastify-observability/observation/internal'
import { type DestinationStream, type Logger, pino } from 'pino'
import { addedText } from './added-fields.ts'
import { bind, contextFields, contextText, isOurs, observationOf } from './context.ts'
import { asksForMetadata, type ExistingPino, METADATA, propertyOf, setInternal } from './existing-pino.ts'
import { OWN_NAMES } from './fields.ts'
import { openFile } from './file.ts'
import { guardedCopy, guardedPino, type LineEvents, ownLast } from './guard.ts'
import { inOnePiece, memoize } from './memoize.ts'
import { type Level, type LoggingOptions, NAME, resolveOptions } from './options.ts'
import { otlpSinks } from './otlp.ts'
import { createPretty, wantsColors } from './pretty.ts'
import { createSafe, type LineKeys, PINO_KEYS, type Safe } from './safe.ts'
import { type Sink, standardOutput } from './sink.ts'
import { streamSink } from './stream-sink.ts'

/** What a logger keeps beside pino. */
export interface Journal {
  /** Lines written, by level. */
  readonly lines: ReadonlyMap<string, number>
  /** Lines that could not be written as JSON, by reason. */
  readonly lost: ReadonlyMap<string, number>
  /** Where the lines go. */
  readonly sinks: readonly Sink[]
  readonly redactor: Redactor
  readonly levelFor: LoggingOptions['levelFor']
  readonly keep: LoggingOptions['keep']
  /** Hands each line that is written, as JSON, to this function too. @returns what ends that */
  copy(receive: (line: string) => void): () => void
  /** Counts a line as written. */
  count(level: string): void
  /** Counts lines that are not written. */
  lose(reason: string, lines: number): void
  /** Whether a line can be made later than it was logged: no function of the user's takes part in it. */
  readonly isDeferrable: boolean
  /** `undefined` for a copy of a logger, whose lines only its own methods can write. */
  readonly ready: ReadyLines | undefined
  /** Sends each line, also those below the level, to this listener too. */
  listen(listener: LineListener): void
  readonly isListening: () => boolean
  /** Whether lines of the level are written. Where somebody listens, isLevelEnabled of the logger is true of all levels. */
  writes(logger: Logger, level: string): boolean
}

/** Lines whose fields are JSON already: putting them together is most of what pino does for a line. */
export interface ReadyLines {
  /** Somebody else's text as it may stand in a line, without secrets and quoted. */
  quote(text: string): string
  /** Fields that were added to a request, without secrets, each with a comma before it. */
  added(fields: KeptFields): string
  /**
   * Writes what `log[level](fields, message)` would for the request as a whole. The fields begin with a comma, the message
   * needs no escapes.
   */
  write(log: Logger, level: LogLevel, fields: string, observation: RequestObservation, message: string): void
}

// Of a logger, as JSON. A property that is named like this is found faster than one that Reflect.get() asks for.
const BINDINGS: typeof pino.symbols.chindingsSym = pino.symbols.chindingsSym
const MINUTE_MS = 60_000
const journals = new WeakMap<object, Journal>()
const roots = new Set<Logger>()

// What a crash leaves in the buffers is what says why it happened.
const openSinks = new Set<Sink>()
process.on('exit', () => {
  for (const sink of openSinks) sink.flushSync()
})

/**
 * A pino logger with the suite's fields, redaction and destinations, for `Fastify({ loggerInstance: createLogger() })`
 * and for code without a server. Register the plugin too: it brings the request's context.
 * @param fallbackLevel the level when neither option nor LOG_LEVEL says one
 * @throws TypeError for invalid options, and when the file cannot be opened.
 */
export function createLogger(options: LoggingOptions = {}, fallbackLevel: Level = 'info'): Logger {
  const parts = partsOf(resolveOptions(options, warnOfVariable))
  const { level = fallbackLevel, safe, service, targets, mixin, events } = parts
  const logger = guardedPino(
    safe,
    {
      level,
      base: fieldsOf(service),
      timestamp: timeField,
      formatters: { level: (label) => ({ level: label }) },
      mixin,
      mixinMergeStrategy: ownLast
    },
    { write: (line) => write(targets, line) },
    events
  )
  // Part of each line.
  if (BINDINGS in logger) logger[BINDINGS] = inOnePiece(String(logger[BINDINGS]))
  return rootOf(logger, parts, true, readyLines(safe, parts))
}

/** The same on top of a pino that the service has set up: what it has set stays, and its lines go where they went. */
export function extendLogger(existing: ExistingPino, options: LoggingOptions): Logger {
  const { stream } = existing
  const parts = partsOf(resolveOptions({ ...(stream && { stream }), ...options }, warnOfVariable), existing)
  const { level = existing.logger.level, safe, service, mixin, events } = parts
  const bindings = { ...fieldsOf(service), ...Object(safe.copy(existing.bindings)) }
  const logger = guardedCopy(
    safe,
    existing,
    {
      level,
      bindings: inOnePiece(`,${JSON.stringify(bindings).slice(1, -1)}`),
      time: existing.hasTime ? undefined : timeField,
      mixin,
      stream: destination(existing, parts)
    },
    events
  )
  const isReady = existing.isPlain && BINDINGS in logger
  const { mixin: own, formatLog, hooks, hasTime } = existing
  const isDeferrable = !own && !formatLog && !hooks.logMethod && !hasTime
  const root = rootOf(logger, parts, isDeferrable, isReady ? readyLines(safe, parts) : undefined)
  if (parts.otlp && existing.moved.length > 0) {
    const names = existing.moved.join(', ')
    root.warn(
      withDocs('logger-and-log-file'),
      `${NAME}: records over OTLP take level, time and message from the line, which the logger's own ${names} changes`
    )
  }
  return root
}

type Target = Pick<Sink, 'write'>

interface Parts extends Pick<LoggingOptions, 'levelFor' | 'keep' | 'otlp'> {
  level: Level | undefined
  service: Service
  sinks: Sink[]
  /** The sinks, and what receives copies. */
  targets: Target[]
  redactor: Redactor
  safe: Safe
  lines: Map<string, number>
  lost: Map<string, number>
  count(label: string): void
  lose(reason: string, lines: number): void
  /** Set by `Journal.listen`. */
  listener: LineListener | undefined
  /** Whether lines of a level are written. */
  isEnabled(level: number, loggerLevel: number): boolean
  mixin(fields: object, level: number, logger: Logger): object
  events: LineEvents
}

function partsOf({ level, redact, allow, levelFor, keep, ...rest }: LoggingOptions, keys?: LineKeys): Parts {
  const service = resolveService(rest.service)
  const lines = new Map<string, number>()
  const lost = new Map<string, number>()
  const redactor = createRedactor({ redact, allow }, OWN_NAMES)
  const mayWarn = atMostEvery(MINUTE_MS)
  const count = (label: string): void => void lines.set(label, (lines.get(label) ?? 0) + 1)
  const lose = (reason: string, count: number): void => void lost.set(reason, (lost.get(reason) ?? 0) + count)
  const sinks = sinksFor(rest, service, keys)
  const parts: Parts = {
    level,
    levelFor,
    keep,
    otlp: rest.otlp,
    service,
    sinks,
    targets: [...sinks],
    redactor,
    safe: createSafe(redactor, keys),
    lines,
    lost,
    count,
    lose,
    listener: undefined,
    isEnabled: () => true,
    mixin(_fields, number, logger) {
      count(labelOf(logger, number))
      return contextFields(logger)
    },
    events: {
      lost: () => lose('unserializable', 1),
      written: report,
      failed(error) {
        if (!mayWarn()) return
        latest()?.warn(
          withDocs('functions-that-fail', { err: error }),
          `${NAME}: a function of the logger's failed, lines are written without it`
        )
      }
    }
  }
  return parts
}

function fieldsOf({ name, version, environment }: Service): object {
  return { service: name, version, environment }
}

function rootOf(logger: Logger, parts: Parts, isDeferrable: boolean, ready?: ReadyLines): Logger {
  const { lines, lost, sinks, targets, redactor, levelFor, keep, count, lose, events } = parts
  for (const sink of sinks) openSinks.add(sink)
  const root = bind(logger, undefined)

  function listen(listener: LineListener): void {
    // Another app of the same logger may listen already.
    if (!parts.listener) parts.isEnabled = comparisonOf(root)
    parts.listener = listener
    // Set here: the methods of a logger that nobody listens to ask for no listener.
    events.written = (logger, number, message, fields) => {
      const observation = observationOf(logger)
      observation?.onLine?.(labelOf(logger, number), message)
      if (!listener.wants(observation)) return
      listener.line(observation, { level: labelOf(logger, number), message, fields, isWritten: true })
    }
    events.isIgnored = (logger, number) =>
      !parts.isEnabled(number, logger.levelVal) && !listener.wants(observationOf(logger))
    events.isBelow = (logger, number, message, fields) => {
      if (parts.isEnabled(number, logger.levelVal)) return false
      listener.line(observationOf(logger), { level: labelOf(logger, number), message, fields, isWritten: false })
      return true
    }
    // pino switches off the methods below the level; they are made anew with it.
    setInternal(root, 'levelComp', () => true)
    root.level = String(root.level)
  }

  journals.set(logger, {
    lines,
    lost,
    sinks,
    redactor,
    levelFor,
    keep,
    copy(receive) {
      const target = { write: receive }
      targets.push(target)
      return () => void targets.splice(targets.indexOf(target), 1)
    },
    count,
    lose,
    isDeferrable,
    ready,
    listen,
    isListening: () => parts.listener !== undefined,
    writes: (logger, level) =>
      parts.listener ? parts.isEnabled(logger.levels.values[level] ?? 0, logger.levelVal) : logger.isLevelEnabled(level)
  })
  roots.add(root)
  return root
}

/** How the logger compares levels. */
function comparisonOf(logger: Logger): Parts['isEnabled'] {
  const compare = propertyOf(logger, 'levelComp')
  return typeof compare === 'function'
    ? (level, loggerLevel) => compare(level, loggerLevel) === true
    : (level, loggerLevel) => level >= loggerLevel
}

/** What pino writes to: a stream that asks for what a line says, as pino's own for several streams does, receives it. */
function destination(
  { stream }: ExistingPino,
  { sinks, targets }: Pick<Parts, 'sinks' | 'targets'>
): DestinationStream {
  const target = {
    [METADATA]: asksForMetadata(stream),
    write(line: string): void {
      const { write: _, flushSync: __, ...metadata } = target
      if (stream && target[METADATA]) Object.assign(stream, metadata)
      write(targets, line)
    },
    flushSync: () => sinks[0]?.flushSync()
  }
  return target
}

/** The logger of the request or job that the calling code works for; outside of one, the process's latest. */
export function logger(): Logger {
  const current = currentScope()?.observation
  const log = current && 'job' in current ? current.log : current?.request?.log
  if (log && isOurs(log)) return log
  return latest() ?? createLogger()
}

/** When there is a logger. */
function warnLater(fields: object, message: string): void {
  queueMicrotask(() => latest()?.warn(fields, `${NAME}: ${message}`))
}

function warnOfVariable(message: string): void {
  warnLater(withDocs('wrong-options'), message)
}

function latest(): Logger | undefined {
  return Array.from(roots).at(-1)
}

/** Forgets a logger whose sinks have been closed. */
export function forget(root: Logger, { sinks }: Pick<Journal, 'sinks'>): void {
  roots.delete(root)
  for (const sink of sinks) openSinks.delete(sink)
}

/** The journal of a logger that `createLogger` made, or of a child of one. */
export function journalOf(logger: object): Journal {
  for (let target: object | null = logger; target !== null; target = Object.getPrototypeOf(target)) {
    const journal = journals.get(target)
    if (journal) return journal
  }
  return {
    lines: new Map(),
    lost: new Map(),
    sinks: [],
    redactor: createRedactor(),
    levelFor: undefined,
    keep: undefined,
    copy: () => () => undefined,
    count: () => undefined,
    lose: () => undefined,
    isDeferrable: false,
    ready: undefined,
    listen: () => undefined,
    isListening: () => false,
    writes: (logger, level) => logger.isLevelEnabled(level)
  }
}

const levelText = memoize((level: string) => inOnePiece(`{"level":"${level}"`))
const messageText = memoize((message: string) => inOnePiece(`,"msg":"${message}"}\n`))

function readyLines(safe: Safe, parts: Parts): ReadyLines {
  return {
    quote: (text) => JSON.stringify(safe.text(text)),
    added: addedText(safe),
    write(log, level, fields, observation, message) {
      const { listener, isEnabled, targets } = parts
      const isWritten = listener ? isEnabled(log.levels.values[level] ?? 0, log.levelVal) : log.isLevelEnabled(level)
      if (listener?.wants(observation)) listener.line(observation, { level, message, fields: undefined, isWritten })
      if (!isWritten) return
      parts.count(level)
      const bindings = BINDINGS in log ? log[BINDINGS] : ''
      const context = contextText(observation)
      write(targets, levelText(level) + timeField() + bindings + fields + context + messageText(message))
      observation.onLine?.(level, message)
    }
  }
}

// A fake clock of a test may begin at 0.
let timeMs = Number.NaN
let timeText = ''
let second = Number.NaN
let secondText = ''

// Lines of the same millisecond are many under load. A date's text takes longer than the rest of most lines, and nearly
// all of it lasts for a second.
/** The field of the time, which JSON begins with. */
export function timeField(now: number = Date.now()): string {
  if (now === timeMs) return timeText
  const thousandths = now % 1000
  if (now - thousandths !== second) {
    second = now - thousandths
    secondText = inOnePiece(`,"time":"${new Date(second).toISOString().slice(0, -4)}`)
  }
  timeMs = now
  timeText = `${secondText}${String(thousandths).padStart(3, '0')}Z"`
  return timeText
}

function labelOf({ levels }: Logger, level: number): string {
  return levels.labels[level] ?? 'info'
}

function report(logger: Logger, level: number, message: string | undefined): void {
  const observation = observationOf(logger)
  if (observation?.onLine) observation.onLine(labelOf(logger, level), message)
}

function write(targets: readonly Target[], line: string): void {
  for (const target of targets) target.write(line)
}

function sinksFor({ stream, sync, format, file, otlp }: LoggingOptions, service: Service, keys = PINO_KEYS): Sink[] {
  const output = stream ? streamSink(stream) : sync ? atOnce(standardOutput()) : standardOutput()
  const warn = (message: string): void => latest()?.warn(withDocs('logger-and-log-file'), `${NAME}: ${message}`)
  const wanted = format ?? (process.stdout.isTTY && !stream ? 'pretty' : 'json')
  const sinks = [
    wanted === 'pino-pretty'
      ? pinoPretty(output, keys)
      : wanted === 'pretty'
        ? formatted(output, createPretty(keys, wantsColors()))
        : output
  ]
  if (file !== undefined) sinks.push(openFile(typeof file === 'string' ? { path: file } : file, warn))
  sinks.push(
    ...otlpSinks(otlp, service, keys, {
      // Logged when there is a logger.
      info: (message) => queueMicrotask(() => latest()?.info(`${NAME}: ${message}`)),
      warn: warnLater,
      warnOfVariable
    })
  )
  return sinks
}

/** Hands each line to the system before the call returns. */
function atOnce(sink: Sink): Sink {
  return {
    ...sink,
    write(line) {
      sink.write(line)
      sink.flushSync()
    }
  }
}

/** The same rows of a sink, as `format` makes them of the lines. */
function formatted(output: Sink, format: (line: string) => string): Sink {
  return { ...output, write: (line) => output.write(format(line)) }
}

function pinoPretty(output: Sink, keys: LineKeys): Sink {
  try {
    const { isColorSupported, prettyFactory }: typeof import('pino-pretty') = requireOf(import.meta.url)('pino-pretty')
    return formatted(
      output,
      prettyFactory({ colorize: isColorSupported, messageKey: keys.messageKey, ignore: 'service,version,environment' })
    )
  } catch {
    warnLater(withDocs('missing-packages'), 'pino-pretty is not installed, format "pretty" is used')
    return formatted(output, createPretty(keys, wantsColors()))
  }
}
