import observation, {
  currentObservation,
  Observation,
  type Outcome,
  parseEnv,
  parseOptions,
  resolveService,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation'
import { trace } from '@opentelemetry/api'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'
import * as v from 'valibot'
import { errorFields } from './error.ts'

export interface LoggingOptions {
  service?: ServiceOptions
  /** @default LOG_LEVEL, then the level of the logger Fastify was created with, then 'info' */
  level?: Level
  /** @default LOG_FORMAT, then 'pretty' in a terminal and 'json' elsewhere */
  format?: Format
  /** Where lines go instead of standard output: anything with `write(line)`. */
  stream?: DestinationStream
}

export type Level = (typeof LEVELS)[number]
export type Format = (typeof FORMATS)[number]

const NAME = '@fastify-observability/logging'
const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
const FORMATS = ['json', 'pretty'] as const
const level = v.picklist(LEVELS, `one of ${LEVELS.join(', ')}`)
const format = v.picklist(FORMATS, `one of ${FORMATS.join(', ')}`)
const schema = v.strictObject({
  service: serviceSchema,
  level: v.optional(level),
  format: v.optional(format),
  stream: v.optional(v.custom<DestinationStream>(isStream, 'an object with a write function'))
})
const envSchema = v.object({ LOG_LEVEL: v.optional(level), LOG_FORMAT: v.optional(format) })
const BOUND = Symbol('fastify-observability.logging.observation')

// One writer a process: two on one descriptor would cut into each other's lines.
let stdout: ReturnType<typeof destination> | undefined

function standardOutput(): DestinationStream {
  stdout ??= destination({ dest: 1, sync: false })
  return stdout
}

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'write' in value && typeof value.write === 'function'
}

function isOurs(logger: object): logger is Logger {
  return BOUND in logger
}

/** The observation a request's logger is bound to; the app's own logger is bound to `undefined`. */
function boundTo(logger: object): Observation | undefined {
  return BOUND in logger && logger[BOUND] instanceof Observation ? logger[BOUND] : undefined
}

function bind(logger: Logger, observation: Observation | undefined): Logger {
  // Cheaper than pino's child(), and children made from it find the binding through their prototype.
  return Object.create(logger, { [BOUND]: { value: observation } })
}

// Read per line: the active span changes while a request runs.
function context(_fields: object, _level: number, logger: Logger): object {
  const current = currentObservation()
  const observation = boundTo(logger) ?? current
  const active = observation === current ? trace.getActiveSpan()?.spanContext() : undefined
  const span = active ?? observation?.spanContext
  return {
    ...(observation && {
      request_id: observation.requestId,
      correlation_id: observation.correlationId,
      method: observation.method,
      path: observation.path
    }),
    ...(span && { trace_id: span.traceId, span_id: span.spanId })
  }
}

const serializers = {
  err: errorFields,
  // Fastify's own lines pass whole requests and replies; headers and queries stay out of the log.
  req: (request: FastifyRequest) => ({ method: request.method, path: request.url?.split('?', 1)[0] }),
  res: (reply: FastifyReply) => ({ status_code: reply.statusCode })
}

async function prettyStream(stream: DestinationStream): Promise<DestinationStream | undefined> {
  try {
    const { prettyFactory } = await import('pino-pretty')
    const pretty = prettyFactory({ colorize: true, ignore: 'service,version,environment' })
    return { write: (line) => stream.write(pretty(line)) }
  } catch {
    return undefined
  }
}

function canonicalLine({ route, raw, clientAddress }: Observation, outcome: Outcome): object {
  const { statusCode, aborted, durationMs, ttfbMs, responseBytes, error } = outcome
  return {
    route,
    status_code: statusCode,
    duration_ms: micros(durationMs),
    ttfb_ms: ttfbMs === undefined ? undefined : micros(ttfbMs),
    response_bytes: responseBytes,
    client_ip: clientAddress,
    user_agent: raw.headers['user-agent'],
    aborted,
    ...(error !== undefined && { err: error })
  }
}

function micros(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

function levelOf({ statusCode, aborted }: Outcome): 'error' | 'warn' | 'info' {
  if (statusCode >= 500) return 'error'
  return statusCode >= 400 || aborted ? 'warn' : 'info'
}

async function logging(app: FastifyInstance, options: LoggingOptions): Promise<void> {
  const parsed = parseOptions<LoggingOptions>(NAME, schema, options)
  const env = parseEnv(NAME, envSchema)
  const { name: service, version, environment } = resolveService(parsed.service)
  const wanted = parsed.format ?? env.LOG_FORMAT ?? (process.stdout.isTTY && !parsed.stream ? 'pretty' : 'json')
  const stream = parsed.stream ?? standardOutput()
  const pretty = wanted === 'pretty' ? await prettyStream(stream) : undefined

  const logger = pino(
    {
      level: parsed.level ?? env.LOG_LEVEL ?? (app.log.level || 'info'),
      base: { service, version, environment },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: context,
      // Nobody's own field can pass for the request's.
      mixinMergeStrategy: (fields, own) => ({ ...fields, ...own }),
      serializers
    },
    pretty ?? stream
  )
  const root = bind(logger, undefined)
  if (wanted === 'pretty' && !pretty) root.warn(`${NAME}: pino-pretty is not installed, logging JSON`)

  await app.register(observation)
  app.log = root
  app.setChildLoggerFactory((_logger, _bindings, opts) =>
    opts.level || opts.serializers ? root.child({}, opts) : root
  )
  app.observation.muteFastify()

  app.observation.observe({
    name: NAME,
    start(observation) {
      const { request, reply } = observation
      if (!request || !reply) return
      const { logLevel } = request.routeOptions
      // Routes declared before this plugin still carry Fastify's first logger.
      const log = isOurs(request.log) ? request.log : logLevel ? root.child({}, { level: logLevel }) : root
      request.log = reply.log = bind(log, observation)
    },
    end(observation, outcome) {
      const { log = true } = observation.config
      if (log === false || (log === 'failures' && outcome.statusCode < 500)) return
      const message = outcome.aborted ? 'request aborted' : 'request completed'
      const logger = observation.request?.log ?? bind(root, observation)
      logger[levelOf(outcome)](canonicalLine(observation, outcome), message)
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

  app.addHook('onClose', (_app, done) => {
    if (stdout) stdout.flush(() => done())
    else done()
  })
}

export default fp(logging, { name: NAME, fastify: '^5.12.0' })
