import { tracingChannel } from 'node:diagnostics_channel'
import observation from '@fastify-observability/observation'
import { countBy, parseOptions, registryOf } from '@fastify-observability/observation/internal'
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import type { Bindings, ChildLoggerOptions, Logger } from 'pino'
import * as v from 'valibot'
import { canonicalFields, canonicalLevel, canonicalText } from './canonical-line.ts'
import { bind, isOurs } from './context.ts'
import { createLogger, forget, type Journal, journalOf } from './logger.ts'
import { type Level, type LoggingOptions, levelSchema, NAME, resolveOptions } from './options.ts'

export type { FileOptions } from './file.ts'
export { createLogger, logger } from './logger.ts'
export type { Format, Level, LoggingOptions } from './options.ts'

declare module 'fastify' {
  interface FastifyInstance {
    logging: {
      /** The level of the app's lines, to be read and set at run time. */
      level: Level
    }
  }
}

const CLOSE_MS = 2_000

function refuseOptions(options: LoggingOptions): void {
  const { service: _service, ...others } = resolveOptions(options, {})
  const given = Object.entries(others).filter(([, value]) => value !== undefined && value !== false)
  if (given.length === 0) return
  const names = given.map(([name]) => `"${name}"`).join(', ')
  throw new TypeError(`${NAME}: the app's logger is from createLogger, which is where ${names} must be given`)
}

/** The logger from createLogger that the app was made with, or a new one in the place of any other. */
function adoptOrReplace(app: FastifyInstance, options: LoggingOptions): [Logger, Journal] {
  const inherited = v.is(levelSchema, app.log.level) ? app.log.level : 'info'
  if (isOurs(app.log)) refuseOptions(options)
  const root = isOurs(app.log) ? app.log : createLogger(options, inherited)
  app.log = root
  return [root, journalOf(root)]
}

async function logging(app: FastifyInstance, options: LoggingOptions): Promise<void> {
  const isGiven = isOurs(app.log)
  const isSilent = !isGiven && app.log.child({}) === app.log
  const [root, journal] = adoptOrReplace(app, options)
  const { lines, lost, sinks, redactor, levelFor, ready } = journal

  await app.register(observation)
  const registry = registryOf(app)
  const { observe, publish, report, muteFastify } = registry
  app.decorate('logging', {
    get level(): Level {
      return v.parse(levelSchema, root.level)
    },
    set level(level) {
      root.level = parseOptions(NAME, v.object({ level: levelSchema }), { level }).level
    }
  })
  if (isSilent) app.addHook('onRoute', giveSerializers)
  else app.setChildLoggerFactory(childOf)
  registry.redactor = redactor
  muteFastify()

  function childOf(_logger: FastifyBaseLogger, _bindings: Bindings, options: ChildLoggerOptions): Logger {
    return options.level || options.serializers ? root.child({}, options) : root
  }

  // Fastify checks every logger from a factory, which takes longer than the rest of it; without a logger of its own it
  // makes none, and the observer below brings one. Only the serializers of a route it would not bring.
  function giveSerializers(route: RouteOptions): void {
    if (route.logSerializers) route.childLoggerFactory ??= childOf
  }

  function requestLogger(request: FastifyRequest, routeLevel: string | undefined): Logger {
    const wanted = askedLevel(request) ?? routeLevel
    // Routes declared before this plugin still carry Fastify's first logger.
    const log = isOurs(request.log) ? request.log : root
    return wanted ? log.child({}, { level: wanted }) : log
  }

  function askedLevel(request: FastifyRequest): Level | undefined {
    if (!levelFor) return undefined
    try {
      const level: unknown = levelFor(request)
      if (level instanceof Promise) level.catch((error) => report(NAME, error))
      return v.is(levelSchema, level) ? level : undefined
    } catch (error) {
      report(NAME, error)
      return undefined
    }
  }

  const textOf = ready && canonicalText(redactor, ready.quote)
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
    },
    end(observation, outcome) {
      const level = canonicalLevel(observation, outcome)
      if (level === undefined) return
      const message = outcome.aborted ? 'request aborted' : 'request completed'
      const log = observation.request?.log ?? bind(root, observation)
      if (ready && textOf && outcome.error === undefined && isPlain(log))
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

  registry.onFlush((timeoutMs) => Promise.all(sinks.map((sink) => sink.flush(timeoutMs))))
  app.addHook('onClose', async () => {
    // What the user made stays the user's to close, and before the process ends there is a last line to come.
    const stays = isGiven || registry.ending
    await Promise.all(sinks.map((sink) => (stays ? sink.flush(CLOSE_MS) : sink.close(CLOSE_MS))))
    if (!stays) forget(root, journal)
  })
}

export default fp(logging, { name: NAME, fastify: '^5.12.0' })
