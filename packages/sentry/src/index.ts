import { randomUUID } from 'node:crypto'
import observation, { type Outcome } from '@fastify-observability/observation'
import {
  type AnswerRule,
  answerOf,
  currentScope,
  isRecord,
  isShed,
  type JobObservation,
  outlookOf,
  type RequestObservation,
  registryOf,
  requireOf,
  sumOf,
  withDocs,
  YES_OR_NO
} from '@fastify-observability/observation/internal'
import { TraceFlags } from '@opentelemetry/api'
import type { Scope } from '@sentry/node'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import {
  adopt,
  type Connection,
  findForeign,
  hasTracerProvider,
  open,
  rehearsalOf,
  release,
  type SDK
} from './client.ts'
import { deliveryOf, publishCounters, watchEvents } from './counters.ts'
import { captureFailure, captureJob, continueTrace, hasFailed, isCaptured, isReadable } from './failure.ts'
import { NAME, resolveOptions, type SentryOptions, type Settings } from './options.ts'
import { fingerprintOf } from './rate-limit.ts'
import { crumbOf, maxCrumbsOf, RequestScopes, requestScopes } from './request-scopes.ts'
import { scrubEvent } from './scrub.ts'

export type { SentryOptions } from './options.ts'

const ADMISSION: unique symbol = Symbol('fastify-observability.sentry.admission')
const SCOPES: unique symbol = Symbol('fastify-observability.sentry.scopes')

declare module 'node:http' {
  interface IncomingMessage {
    /** The SDK's scopes of the request. */
    [SCOPES]?: object
    /** What was decided about the request's event when its body was sent. */
    [ADMISSION]?: { eventId: string | undefined }
  }
}

// Aborted by the client or by health's shutdown: that is no error of the request.
const ABORTED = new Set(['client_disconnect', 'SHUTDOWN'])

const require = requireOf(import.meta.url)

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
    return isRecord(value) && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

// Written into the text: parsing it would change numbers that JavaScript does not have.
function withMember(object: string, member: string): string {
  const open = object.trimEnd().slice(0, -1).trimEnd()
  return `${open}${open.endsWith('{') ? '' : ','}${member}}`
}

const A_USER: AnswerRule = {
  allows: (answer) => answer === undefined || answer === null || isRecord(answer),
  words: 'an object with what is known of the user'
}

async function sentry(app: FastifyInstance, options: SentryOptions): Promise<void> {
  const settings = resolveOptions(options, (message) => app.log.warn(withDocs('wrong-options'), `sentry: ${message}`))
  const { dsn, spotlight } = settings
  if (dsn === undefined && spotlight === false) {
    if (app.hasDecorator('observation')) await offerRehearsal(app, settings)
    return
  }
  const warn = (message: string): void => app.log.warn(withDocs('error-events'), `${NAME}: ${message}`)

  const Sentry = await load()
  if (!Sentry) {
    warn('a DSN is set but @sentry/node is not installed, no events are sent: npm install @sentry/node')
    return
  }

  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  const foreign = findForeign(Sentry)
  if (foreign) app.log.info(`${NAME}: using the client that Sentry.init has made already`)
  const connection = foreign ? adopt(foreign, settings) : await open(Sentry, settings, registry, warn)
  if (!connection) return
  const { client, counters, isTracing } = connection
  publishCounters(registry, counters)
  captureFailures(app, Sentry, settings, connection)
  app.addHook('onReady', async () => {
    if (isTracing && hasTracerProvider())
      warn('both Sentry and OpenTelemetry make spans: register tracing before sentry')
  })
  const destination = URL.parse(dsn ?? '')?.host ?? 'Spotlight'
  await registry.feeds.events.offer((receive) => watchEvents(client, counters, receive))
  registry.descriptions.add('events', () => ({ to: [destination] }))
  registry.descriptions.addDeliveries(() => [deliveryOf(counters, destination)])
  registry.onFlush({
    signal: 'events',
    flush: async (timeoutMs) => client.flush(timeoutMs),
    dropped: () => sumOf(counters.dropped.collect().map(([, count]) => count))
  })
  if (foreign) return
  app.addHook('onClose', async () => {
    await registry.jobs.close()
    if (!(await release())) warn('the last events could not be sent')
  })
}

/**
 * Without a DSN nothing is loaded and nothing sent; a test that watches the app's events gets those that would be. It changes
 * neither answers nor metrics nor reports.
 */
async function offerRehearsal(app: FastifyInstance, settings: Settings): Promise<void> {
  const { feeds, admit } = registryOf(app)
  let connecting: Promise<Connection | undefined> | undefined

  async function connect(): Promise<Connection | undefined> {
    const Sentry = await load()
    if (!Sentry || findForeign(Sentry) || !admit(NAME)) return undefined
    const rehearsed = rehearsalOf(settings)
    const connection = await open(Sentry, rehearsed, registryOf(app), () => undefined)
    if (!connection) return undefined
    feeds.events.onEnd(release)
    // The client of another app sends what it is given.
    if (connection.client.getOptions().dsn !== rehearsed.dsn) return undefined
    captureFailures(app, Sentry, rehearsed, connection)
    return connection
  }

  await feeds.events.offer(async (receive) => {
    connecting ??= connect()
    const connection = await connecting
    return connection ? watchEvents(connection.client, connection.counters, receive) : () => undefined
  })
}

/** Captures the requests and jobs of the app that fail. */
function captureFailures(app: FastifyInstance, Sentry: SDK, settings: Settings, connection: Connection): void {
  const { shouldCapture, captureWithoutException = false, eventIdInBody = false, user } = settings
  const { client, rateLimit, counters, rules, isTracing, untraced } = connection
  const registry = registryOf(app)
  const { observe, report } = registry
  const scopesOf = requestScopes(Sentry, client)

  const reportError = (error: unknown): void => report(NAME, error)

  function isWanted(observation: RequestObservation, outcome: Outcome): boolean {
    const { statusCode, error, errorType } = outcome
    if ((errorType !== undefined && ABORTED.has(errorType)) || isShed(outcome)) return false
    const rule = hasFailed(outcome) || (captureWithoutException && error === undefined && statusCode >= 500)
    return shouldCapture
      ? answerOf('shouldCapture', () => shouldCapture(outcome, observation), rule, reportError, YES_OR_NO)
      : rule
  }

  /** The id of the event that may be sent, `undefined` for none. */
  function admit(source: string, error: unknown): string | undefined {
    const reason = isCaptured(error)
      ? 'already_captured'
      : isReadable(error)
        ? rateLimit(error === undefined ? source : fingerprintOf(error), false)
        : 'unreadable'
    if (reason === undefined) return randomUUID().replaceAll('-', '')
    counters.dropped.add(reason)
    return undefined
  }

  /** Captures an admitted event in a scope of its own; one that cannot be read is counted as dropped. */
  const send = (
    observation: { sentryEventId: string | undefined },
    eventId: string,
    capture: (scope: Scope) => void
  ): void => {
    try {
      const scope = Sentry.getCurrentScope().clone()
      // Our own client scrubs all of its events, by the rules of the app that has opened it.
      if (settings.scrub && rules !== registry) {
        scope.addEventProcessor((event) => scrubEvent(event, registry.redactor))
      }
      capture(scope)
      observation.sentryEventId = eventId
    } catch (error) {
      counters.dropped.add('unreadable')
      report(NAME, error)
    }
  }

  /** Joins the trace that the SDK has begun or continued, and returns what it is sampled by. */
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
      const scopes = scopesOf(observation, isTracing ? joinTrace(observation) : undefined)
      observation.raw[SCOPES] = scopes
      scopes.enter(next)
    },
    resume({ raw }, next) {
      const scopes = raw[SCOPES]
      if (scopes instanceof RequestScopes) scopes.resume(next)
      // Fastify has answered before any hook.
      else Sentry.withIsolationScope(next)
    },
    end(observation, outcome) {
      const { raw } = observation
      if (!isWanted(observation, outcome)) return
      const { eventId } = raw[ADMISSION] ?? { eventId: admit(observation.route, outcome.error) }
      if (eventId === undefined) return
      // Another request may have failed by the same object since this one was admitted.
      if (raw[ADMISSION]) isCaptured(outcome.error)
      send(observation, eventId, (scope) => {
        const { request } = observation
        const identified = request && user && answerOf('user', () => user(request), undefined, reportError, A_USER)
        if (identified) scope.setUser(identified)
        captureFailure(client, scope, observation, outcome, eventId, settings.tagFields)
      })
    }
  })
  const jobScopes = new WeakMap<JobObservation, Scope>()
  const maxCrumbs = maxCrumbsOf(client)
  observe({
    name: NAME,
    kind: 'job',
    run(observation, next) {
      const { job, requestId, correlationId, spanContext } = observation
      Sentry.withIsolationScope((scope) => {
        scope.setTransactionName(job)
        scope.setTags({ job, request_id: requestId, correlation_id: correlationId })
        scope.clearBreadcrumbs()
        if (spanContext) continueTrace(Sentry.getCurrentScope(), spanContext)
        jobScopes.set(observation, scope)
        observation.onLine = (level, message) => {
          if (message !== undefined) scope.addBreadcrumb(crumbOf(level, message), maxCrumbs)
        }
        next()
      })
    },
    resume(observation, next) {
      const scope = jobScopes.get(observation)
      if (scope) Sentry.withIsolationScope(scope, next)
      else next()
    },
    end(observation, { result, error, errorType, isLast }) {
      if (result !== 'failed' || !isLast || errorType === 'SHUTDOWN') return
      const eventId = admit(observation.job, error)
      if (eventId === undefined) return
      send(observation, eventId, (scope) => captureJob(client, scope, observation, error, eventId, settings.tagFields))
    }
  })
  if (eventIdInBody) {
    app.addHook('onSend', (_request, reply, payload, done) => {
      const current = currentScope()?.observation
      const observation = current && 'raw' in current ? current : undefined
      const isFailure = reply.statusCode >= 500 && observation?.error !== undefined
      const isJson = String(reply.getHeader('content-type')).includes('json')
      const isObject = isFailure && isJson && typeof payload === 'string' && objectOf(payload) !== undefined
      if (!isObject || !observation) return done(null, payload)
      if (!isWanted(observation, outlookOf(observation, reply.statusCode))) return done(null, payload)
      const { raw } = observation
      raw[ADMISSION] ??= { eventId: admit(observation.route, observation.error) }
      const { eventId } = raw[ADMISSION]
      done(null, eventId ? withMember(payload, `"sentry_event_id":"${eventId}"`) : payload)
    })
  }
}

/** Reports what really failed, where there is a DSN. */
export default fp(sentry, { name: NAME, fastify: '^5.10.0' })
