import { createRequire } from 'node:module'
import { currentObservation, type LogLevel } from '@fastify-observability/observation'
import {
  createRedactor,
  type Redactor,
  type RequestObservation,
  resolveService,
  type Service
} from '@fastify-observability/observation/internal'
import { type DestinationStream, type Logger, pino } from 'pino'
import { bind, contextFields, contextText, isOurs, observationOf } from './context.ts'
import { OWN_NAMES } from './fields.ts'
import { openFile } from './file.ts'
import { guardedPino } from './guard.ts'
import { inOnePiece, memoize } from './memoize.ts'
import { type Level, type LoggingOptions, NAME, resolveOptions } from './options.ts'
import { otlpSink } from './otlp.ts'
import { createSafe, type Safe } from './safe.ts'
import { type Sink, standardOutput } from './sink.ts'

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
  /** `undefined` for a copy of a logger, whose lines only its own methods can write. */
  readonly ready: ReadyLines | undefined
}

/** Lines whose fields are JSON already: putting them together is most of what pino does for a line. */
export interface ReadyLines {
  /** Somebody else's text as it may stand in a line, without secrets and quoted. */
  quote(text: string): string
  /**
   * Writes what `log[level](fields, message)` would for the request as a whole. The fields begin with a comma, the message
   * needs no escapes.
   */
  write(log: Logger, level: LogLevel, fields: string, observation: RequestObservation, message: string): void
}

const require = createRequire(import.meta.url)
// Of a logger, as JSON. A property that is named like this is found faster than one that Reflect.get() asks for.
const BINDINGS: typeof pino.symbols.chindingsSym = pino.symbols.chindingsSym
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
 * @throws TypeError for options or variables that do not hold, and when the file cannot be opened.
 */
export function createLogger(options: LoggingOptions = {}, fallbackLevel: Level = 'info'): Logger {
  const { level = fallbackLevel, redact, allow, levelFor, ...rest } = resolveOptions(options)
  const service = resolveService(rest.service)
  const lines = new Map<string, number>()
  const sinks = sinksFor(rest, service)
  const lost = new Map<string, number>()
  const redactor = createRedactor({ redact, allow }, OWN_NAMES)
  const safe = createSafe(redactor)
  const count = (label: string): void => void lines.set(label, (lines.get(label) ?? 0) + 1)
  const logger = guardedPino(
    safe,
    {
      level,
      base: { service: service.name, version: service.version, environment: service.environment },
      timestamp: timeField,
      formatters: { level: (label) => ({ level: label }) },
      mixin(_fields, number, logger) {
        count(labelOf(logger, number))
        return contextFields(logger)
      },
      // Nobody's own field can pass for the request's. The fields are a copy already.
      mixinMergeStrategy: (fields, own) => Object.assign(fields, own)
    },
    { write: (line) => write(sinks, line) },
    () => lost.set('unserializable', (lost.get('unserializable') ?? 0) + 1),
    tell
  )
  // Part of each line.
  if (BINDINGS in logger) logger[BINDINGS] = inOnePiece(String(logger[BINDINGS]))
  for (const sink of sinks) openSinks.add(sink)
  const root = bind(logger, undefined)
  journals.set(logger, { lines, lost, sinks, redactor, levelFor, ready: readyLines(safe, sinks, count) })
  roots.add(root)
  return root
}

/** The logger of the request that the calling code works for; outside of one, the process's latest. */
export function logger(): Logger {
  const log = currentObservation()?.request?.log
  if (log && isOurs(log)) return log
  return latest() ?? createLogger()
}

function latest(): Logger | undefined {
  return Array.from(roots).at(-1)
}

/** Forgets a logger whose sinks have been closed. */
export function forget(root: Logger, { sinks }: Journal): void {
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
    ready: undefined
  }
}

const levelText = memoize((level: string) => inOnePiece(`{"level":"${level}"`))
const messageText = memoize((message: string) => inOnePiece(`,"msg":"${message}"}\n`))

function readyLines(safe: Safe, sinks: Sink[], count: (label: string) => void): ReadyLines {
  return {
    quote: (text) => JSON.stringify(safe.text(text)),
    write(log, level, fields, observation, message) {
      if (!log.isLevelEnabled(level)) return
      count(level)
      const bindings = BINDINGS in log ? log[BINDINGS] : ''
      const context = contextText(observation)
      write(sinks, levelText(level) + timeField() + bindings + fields + context + messageText(message))
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
function timeField(): string {
  const now = Date.now()
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

/** Reports the line to the slot of its request. */
function tell(logger: Logger, level: number, message: string | undefined): void {
  const observation = observationOf(logger)
  if (observation?.onLine) observation.onLine(labelOf(logger, level), message)
}

function write(sinks: Sink[], line: string): void {
  for (const sink of sinks) sink.write(line)
}

function sinksFor({ stream, format, file, otlp }: LoggingOptions, service: Service): Sink[] {
  const output = stream ? streamSink(stream) : standardOutput()
  const warn = (message: string): void => latest()?.warn(`${NAME}: ${message}`)
  const wanted = format ?? (process.stdout.isTTY && !stream ? 'pretty' : 'json')
  const sinks = [wanted === 'pretty' ? prettySink(output, warn) : output]
  if (file !== undefined) sinks.push(openFile(typeof file === 'string' ? { path: file } : file, warn))
  if (otlp) sinks.push(otlpSink(service, warn))
  return sinks
}

/** A user's stream, which may throw. */
function streamSink(stream: DestinationStream): Sink {
  const dropped = new Map<string, number>()
  return {
    dropped,
    write(line) {
      try {
        stream.write(line)
      } catch {
        dropped.set('write_error', (dropped.get('write_error') ?? 0) + 1)
      }
    },
    flush: async () => undefined,
    flushSync() {},
    close: async () => undefined
  }
}

function prettySink(output: Sink, warn: (message: string) => void): Sink {
  try {
    const { isColorSupported, prettyFactory }: typeof import('pino-pretty') = require('pino-pretty')
    const pretty = prettyFactory({ colorize: isColorSupported, ignore: 'service,version,environment' })
    return { ...output, write: (line) => output.write(pretty(line)) }
  } catch {
    // Said when there is a logger to say it.
    queueMicrotask(() => warn('pino-pretty is not installed, logging JSON'))
    return output
  }
}
