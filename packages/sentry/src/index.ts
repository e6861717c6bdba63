import { randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import observation, { type Outcome } from '@fastify-observability/observation'
import {
  currentScope,
  outlookOf,
  type RequestObservation,
  registryOf
} from '@fastify-observability/observation/internal'
import { TraceFlags } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { fingerprintOf } from './cap.ts'
import { adopt, findForeign, hasTracerProvider, open, release, type SDK } from './client.ts'
import { captureFailure, hasFailed, isCaptured, isReadable } from './failure.ts'
import { NAME, resolveOptions, type SentryOptions } from './options.ts'
import { scrubEvent } from './scrub.ts'
import { publishTally } from './tally.ts'
import { Trail, trails } from './trail.ts'

export type { SentryOptions } from './options.ts'

const ADMISSION: unique symbol = Symbol('fastify-observability.sentry.admission')
const TRAIL: unique symbol = Symbol('fastify-observability.sentry.trail')

declare module 'node:http' {
  interface IncomingMessage {
    /** What the application and its log lines have told Sentry meanwhile. */
    [TRAIL]?: object
    /** What was decided about the request's event when its body was sent. */
    [ADMISSION]?: { eventId: string | undefined }
  }
}

// By the client, and by health's shutdown: what ended those is no error of theirs.
const CUT_SHORT = new Set(['client_disconnect', 'SHUTDOWN'])

const require = createRequire(import.meta.url)

/** The copy that a CommonJS application has loaded, which would otherwise get a second one, for ES modules. */
function loaded(): SDK | undefined {
  try {
    const path = require.resolve('@sentry/node')
    return path in require.cache ? require(path) : undefined
  } catch {
    return undefined
  }
}

async function load(): Promise<SDK | undefined> {
  try {
    return loaded() ?? (await import('@sentry/node'))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND') return undefined
    throw error
  }
}

function objectOf(json: string): object | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

// Written into the text: parsing it would change numbers that JavaScript does not have.
function withMember(object: string, member: string): string {
  const open = object.trimEnd().slice(0, -1).trimEnd()
  return `${open}${open.endsWith('{') ? '' : ','}${member}}`
}

async function sentry(app: FastifyInstance, options: SentryOptions): Promise<void> {
  const settings = resolveOptions(options)
  const { dsn, spotlight, shouldCapture, captureWithoutException = false, eventIdInBody = false, user } = settings
  if (dsn === undefined && spotlight === false) return
  const warn = (message: string): void => app.log.warn(`${NAME}: ${message}`)

  const Sentry = await load()
  if (!Sentry) {
    warn('a DSN is set but @sentry/node is not installed, no events are sent: npm install @sentry/node')
    return
  }

  await app.register(observation)
  const registry = registryOf(app)
  const { observe, report } = registry
  const foreign = findForeign(Sentry)
  if (foreign) app.log.info(`${NAME}: using the client that Sentry.init has made already`)
  const connection = foreign ? adopt(foreign, settings) : await open(Sentry, settings, registry, warn)
  if (!connection) return
  const { client, cap, tally, rules, isTracing, untraced } = connection
  const trailOf = trails(Sentry, client)
  publishTally(registry, tally)

  function asked<Answer>(question: () => Answer, otherwise: Answer): Answer {
    try {
      return question()
    } catch (error) {
      report(NAME, error)
      return otherwise
    }
  }

  function isWanted(observation: RequestObservation, outcome: Outcome): boolean {
    const { statusCode, error, errorType } = outcome
    if (errorType !== undefined && CUT_SHORT.has(errorType)) return false
    const rule = hasFailed(outcome) || (captureWithoutException && error === undefined && statusCode >= 500)
    return shouldCapture ? asked(() => shouldCapture(outcome, observation), rule) : rule
  }

  /** The id of the event that may be sent, `undefined` for none. */
  function admit({ route }: RequestObservation, error: unknown): string | undefined {
    const refusal = isCaptured(error)
      ? 'already_captured'
      : isReadable(error)
        ? cap(error === undefined ? route : fingerprintOf(error), false)
        : 'unreadable'
    if (refusal === undefined) return randomUUID().replaceAll('-', '')
    tally.drop(refusal)
    return undefined
  }

  /** Takes over the trace that the SDK has begun or continued, and returns what it is sampled by. */
  const joinTrace = (observation: RequestObservation): number => {
    const { method, route, path, config } = observation
    const { traceId, propagationSpanId, sampleRand } = Sentry.getCurrentScope().getPropagationContext()
    const span = Sentry.getActiveSpan()
    if (span) {
      Sentry.updateSpanName(span, route === 'unmatched' ? method : `${method} ${route}`)
      observation.spanContext ??= span.spanContext()
    } else if (propagationSpanId !== undefined && config.trace !== false) {
      observation.spanContext ??= { traceId, spanId: propagationSpanId, traceFlags: TraceFlags.NONE }
    }
    // Only known here; a probe's first request is traced at most.
    if (config.trace === false && path === route) untraced.add(path)
    return sampleRand
  }

  observe({
    name: NAME,
    run(observation, next) {
      const trail = trailOf(observation, isTracing ? joinTrace(observation) : undefined)
      observation.raw[TRAIL] = trail
      trail.enter(next)
    },
    end(observation, outcome) {
      const { raw } = observation
      if (!isWanted(observation, outcome)) return
      const { eventId } = raw[ADMISSION] ?? { eventId: admit(observation, outcome.error) }
      if (eventId === undefined) return
      // Another request may have failed by the same object since this one was admitted.
      if (raw[ADMISSION]) isCaptured(outcome.error)
      const isolation = raw[TRAIL] instanceof Trail ? raw[TRAIL].isolationScope : undefined
      try {
        // Whoever closes the response may be in another request's context.
        Sentry.withIsolationScope(isolation, () => {
          const scope = Sentry.getCurrentScope().clone()
          const { request } = observation
          const identified = request && user && asked(() => user(request), undefined)
          if (identified) scope.setUser(identified)
          // Our own client scrubs all of its events, by the rules of the app that has opened it.
          if (settings.scrub && rules !== registry) {
            scope.addEventProcessor((event) => scrubEvent(event, registry.redactor))
          }
          captureFailure(client, scope, observation, outcome, eventId)
        })
      } catch (error) {
        tally.drop('unreadable')
        return report(NAME, error)
      }
      observation.sentryEventId = eventId
    }
  })
  if (eventIdInBody) {
    app.addHook('onSend', (_request, reply, payload, done) => {
      const observation = currentScope()?.observation
      const isFailure = reply.statusCode >= 500 && observation?.error !== undefined
      const isJson = String(reply.getHeader('content-type')).includes('json')
      const isObject = isFailure && isJson && typeof payload === 'string' && objectOf(payload) !== undefined
      if (!isObject || !observation) return done(null, payload)
      if (!isWanted(observation, outlookOf(observation, reply.statusCode))) return done(null, payload)
      const { raw } = observation
      raw[ADMISSION] ??= { eventId: admit(observation, observation.error) }
      const { eventId } = raw[ADMISSION]
      done(null, eventId ? withMember(payload, `"sentry_event_id":"${eventId}"`) : payload)
    })
  }
  app.addHook('onReady', async () => {
    if (isTracing && hasTracerProvider())
      warn('both Sentry and OpenTelemetry make spans: register tracing before sentry')
  })
  registry.onFlush(async (timeoutMs) => client.flush(timeoutMs))
  if (foreign) return
  app.addHook('onClose', async () => {
    if (!(await release())) warn('the last events could not be sent')
  })
}

export default fp(sentry, { name: NAME, fastify: '^5.12.0' })
