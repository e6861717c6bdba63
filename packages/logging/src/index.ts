import { tracingChannel } from 'node:diagnostics_channel'
import observation from '@fastify-observability/observation'
import {
  type AnswerRule,
  answerOf,
  countBy,
  type DeliveryReport,
  documented,
  isFailure,
  keepRule,
  parseOptions,
  registryOf,
  resolveService,
  sumOf,
  withDocs
} from '@fastify-observability/observation/internal'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import * as v from 'valibot'
import { canonicalFields, canonicalLevel, canonicalText } from './canonical-line.ts'
import { childLoggers, followLevel } from './child-loggers.ts'
import { bind, isOurs } from './context.ts'
import { isPino, readPino, settingsOf } from './existing-pino.ts'
import { OWN_NAMES, toMicroseconds } from './fields.ts'
import { holdLines } from './held-lines.ts'
import { createLogger, extendLogger, forget, journalOf } from './logger.ts'
import { type Level, type LoggingOptions, levelSchema, NAME, resolveOptions } from './options.ts'
import type { Sink } from './sink.ts'

export type { FileOptions } from './file.ts'
export { createLogger, logger } from './logger.ts'
export type { Format, Level, LoggingOptions } from './options.ts'

declare module 'fastify' {
  interface FastifyInstance {
    logging: {
      /** The level of the app's lines, one of its logger's, to be read and set at run time. */
      level: string
    }
  }
}

const CLOSE_MS = 2_000
const A_LEVEL: AnswerRule = {
  allows: (answer) => answer === undefined || v.is(levelSchema, answer),
  words: 'a level or undefined'
}

function refuseOptions(options: LoggingOptions): void {
  // What the umbrella hands to every app.
  const { service: _service, sync: _sync, keep: _keep, ...others } = resolveOptions(options, () => undefined, {})
  const given = Object.entries(others).filter(([, value]) => value !== undefined && value !== false)
  if (given.length === 0) return
  const names = given.map(([name]) => `"${name}"`).join(', ')
  const words = `the app's logger is from createLogger, which is where ${names} must be given`
  throw documented(new TypeError(`${NAME}: ${words}`), 'logger-and-log-file')
}

/** The fields of a logger from createLogger are made with it, by its own options. */
function warnOfOtherService(logger: Logger, service: NonNullable<LoggingOptions['service']>): void {
  const { service: named } = logger.bindings()
  const { name } = resolveService(service)
  if (named === name) return
  logger.warn(
    withDocs('logger-and-log-file'),
    `${NAME}: the logger from createLogger names the service "${named}", the app "${name}": give both the same`
  )
}

/** The logger from createLogger that the app was made with, a copy of another pino, or a new one. */
function adoptOrReplace(app: FastifyInstance, options: LoggingOptions, keep: (names: string[]) => void): Logger {
  if (isOurs(app.log)) {
    refuseOptions(options)
    return app.log
  }
  const existing = readPino(app.log)
  if (existing) {
    keep(settingsOf(existing))
    return extendLogger(existing, options)
  }
  return createLogger(options, v.is(levelSchema, app.log.level) ? app.log.level : 'info')
}

/** Whether Fastify was made without a logger: its own then has no children. */
function isSilent({ log }: FastifyInstance): boolean {
  return !isOurs(log) && !isPino(log) && log.child({}) === log
}

async function logging(app: FastifyInstance, options: LoggingOptions): Promise<void> {
  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  const isGiven = isOurs(app.log)
  const [given, hasLogger] = [app.log, !isSilent(app)]
  const root = adoptOrReplace(app, options, registry.descriptions.keep)
  const journal = journalOf(root)
  const { lines, lost, sinks, redactor, levelFor, ready } = journal
  if (registry.lineListener) journal.listen(registry.lineListener)
  app.log = root
  if (isGiven && options.service) warnOfOtherService(root, options.service)
  if (hasLogger && !isGiven && !isPino(given)) {
    root.warn(
      withDocs('logger-and-log-file'),
      `${NAME}: the logger given to Fastify is not a pino logger, its settings and destination do not apply`
    )
  }

  const { claims, observe, publish, report, muteFastify, isSilenced } = registry
  claims.set(
    'logging',
    `${NAME}: app.logging is there already; rename that decorator, or set the option logging: false`
  )
  app.decorate('logging', {
    get level(): string {
      return root.level
    },
    set level(level) {
      const known = Object.keys(root.levels.values)
      const isOwn = known.includes(level) && !v.is(levelSchema, level)
      root.level = isOwn ? level : parseOptions(NAME, v.object({ level: levelSchema }), { level }).level
    }
  })
  const factories = childLoggers(root, given)
  if (hasLogger) app.setChildLoggerFactory(factories.wrap(app.childLoggerFactory) ?? factories.standard)
  app.addHook('onRoute', function (route) {
    const factory = factories.wrap(route.childLoggerFactory ?? this.childLoggerFactory)
    if (factory) route.childLoggerFactory = factory
    // Fastify checks every logger from a factory, which takes longer than the rest of it; without a logger of its own it
    // makes none, and the observer below brings one. Only the serializers of a route it would not bring.
    else if (!hasLogger && route.logSerializers) route.childLoggerFactory = factories.standard
  })
  registry.redactor = redactor
  registry.reserve(OWN_NAMES)
  const rule = keepRule(options.keep ?? journal.keep)
  const held = rule && holdLines(root, journal)
  if (held) {
    registry.reserve(['held'])
    app.addHook('onReady', async () => held.prepare())
  }
  muteFastify()
  const unfollow = isGiven ? undefined : followLevel(given, root)

  function requestLogger(request: FastifyRequest, routeLevel: string | undefined): Logger {
    const wanted = askedLevel(request) ?? routeLevel
    const log = factories.adopt(request)
    return wanted ? log.child({}, { level: wanted }) : log
  }

  function askedLevel(request: FastifyRequest): Level | undefined {
    return (
      levelFor &&
      answerOf(
        'levelFor',
        () => levelFor(request),
        undefined,
        (error) => report(NAME, error),
        A_LEVEL
      )
    )
  }

  function asksForNoLine(request: FastifyRequest | undefined): boolean {
    try {
      return isSilenced(request)
    } catch (error) {
      report(NAME, error)
      return false
    }
  }

  const textOf = ready && canonicalText(redactor, ready)
  // Subscribers of pino's lines receive these too.
  const pinoLines = tracingChannel('pino_asJson')

  /** Whether the logger is as this plugin has made it, with nobody's bindings, serializers or redaction of its own. */
  function isPlain(log: object): log is Logger {
    return Object.getPrototypeOf(log) === root && !pinoLines.hasSubscribers
  }

  observe({
    name: NAME,
    start(observation) {
      const { request, reply, logLevel } = observation
      if (request && reply) request.log = reply.log = bind(requestLogger(request, logLevel), observation)
      held?.begin(observation)
    },
    end(observation, outcome) {
      const isKept = rule?.(observation.config, outcome, isFailure(observation, outcome)) !== undefined
      if (held?.end(observation, isKept)) registry.onKept?.(observation)
      const level = canonicalLevel(observation, outcome)
      if (level === undefined || asksForNoLine(observation.request)) return
      const message = outcome.aborted ? 'request aborted' : 'request completed'
      const log = observation.request?.log ?? bind(root, observation)
      if (held && isKept && isOurs(log) && !journal.writes(log, level)) {
        held.write(log, level, canonicalFields(observation, outcome), message, observation)
        registry.lineListener?.line(observation, { level, message, fields: undefined, isWritten: true })
      } else if (ready && textOf && outcome.error === undefined && isPlain(log))
        ready.write(log, level, textOf(observation, outcome), observation, message)
      else log[level](canonicalFields(observation, outcome), message)
    },
    malformed({ statusCode, error, clientAddress }) {
      const fields = {
        route: 'unmatched',
        status_code: statusCode,
        client_ip: clientAddress,
        aborted: false,
        err: error
      }
      root.warn(fields, 'request completed')
    }
  })
  observe({
    name: NAME,
    kind: 'job',
    start(observation) {
      observation.log = bind(root, observation)
    },
    end(observation, outcome) {
      const { job, attempt, fields, sentryEventId, databaseCalls, databaseMs } = observation
      const { result, error, isLast, durationMs } = outcome
      const level = result === 'completed' ? 'info' : isLast ? 'error' : 'warn'
      const own = {
        job,
        attempt,
        duration_ms: toMicroseconds(durationMs),
        ...(databaseCalls > 0 && { db_calls: databaseCalls, db_ms: toMicroseconds(databaseMs) }),
        sentry_event_id: sentryEventId
      }
      const all = { ...Object.fromEntries(fields), ...own, ...(error !== undefined && { err: error }) }
      bind(root, observation)[level](all, `job ${result}`)
    }
  })
  await registry.feeds.lines.offer(journal.copy)
  publish({
    name: 'log_lines_total',
    help: 'Log lines written.',
    type: 'counter',
    labelNames: ['level'],
    collect: () => Array.from(lines, ([level, count]) => [{ level }, count] as const)
  })
  publish({
    name: 'log_lines_dropped_total',
    help: 'Log lines dropped.',
    type: 'counter',
    labelNames: ['reason'],
    collect() {
      // Two destinations may have lost lines for the same reason.
      const sums = countBy('reason')
      for (const counts of [lost, ...sinks.map(({ dropped }) => dropped)]) {
        for (const [reason, count] of counts) sums.add(reason, count)
      }
      return sums.collect()
    }
  })

  await Promise.all(sinks.map(({ opened }) => opened))
  for (const { series = [] } of sinks) for (const one of series) publish(one)

  registry.onFlush({
    signal: 'lines',
    flush: (timeoutMs) => Promise.all(sinks.map((sink) => sink.flush(timeoutMs))),
    flushSync() {
      for (const sink of sinks) sink.flushSync()
    },
    held: () => sumOf(sinks.map((sink) => sink.held?.() ?? 0)),
    dropped: () => sumOf(sinks.flatMap(({ dropped }) => Array.from(dropped.values())))
  })
  registry.descriptions.add('lines', () => {
    const to = sinks.map(({ destination }) => destination)
    const isExported = sinks.some(({ isExport }) => isExport)
    const warning = sinks.map((sink) => sink.warning?.()).find((text) => text !== undefined)
    return { to, hint: warning ?? (isExported ? undefined : 'OTEL_LOGS_EXPORTER=otlp sends lines over OTLP too') }
  })
  registry.descriptions.addDeliveries(() => {
    const produced = sumOf(lines.values()) - sumOf(lost.values())
    return sinks.map((sink) => deliveryOf(sink, produced))
  })
  app.addHook('onClose', async () => {
    await registry.jobs.close()
    unfollow?.()
    // What the user made stays the user's to close, and before the process ends there is a last line to come.
    const stays = isGiven || registry.ending
    await Promise.all(sinks.map((sink) => (stays ? sink.flush(CLOSE_MS) : sink.close(CLOSE_MS))))
    if (!stays) forget(root, { sinks })
  })
}

function deliveryOf({ destination, dropped, held, delivered, lastError }: Sink, produced: number): DeliveryReport {
  const waiting = held?.() ?? 0
  const arrived = delivered?.() ?? produced - waiting - sumOf(dropped.values())
  return {
    signal: 'lines',
    to: destination,
    produced,
    delivered: arrived,
    dropped: Object.fromEntries(dropped),
    waiting,
    lastError: lastError?.()
  }
}

/** Puts the request on every line, and writes one line for each request. */
export default fp(logging, { name: NAME, fastify: '^5.10.0' })
