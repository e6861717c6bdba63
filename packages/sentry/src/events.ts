import { randomUUID } from 'node:crypto'
import type { Outcome } from '@fastify-observability/observation'
import {
  type AnswerRule,
  answerOf,
  currentScope,
  isRecord,
  isShed,
  outlookOf,
  type RequestObservation,
  registryOf,
  YES_OR_NO
} from '@fastify-observability/observation/internal'
import type { Scope } from '@sentry/node'
import type { FastifyInstance } from 'fastify'
import type { Connection } from './connection.ts'
import { captureFailure, captureJob, hasFailed, isCaptured, isReadable, stamp } from './failure.ts'
import type { Live } from './live.ts'
import { NAME, type Settings } from './options.ts'
import { fingerprintOf } from './rate-limit.ts'
import { keepCrumb, Memory, maxCrumbsOf, memoryOf, type Work } from './request-scopes.ts'
import { scrubEvent } from './scrub.ts'
import { endSpan, serverSpans } from './server-spans.ts'

const ADMISSION: unique symbol = Symbol('fastify-observability.sentry.admission')

declare module 'node:http' {
  interface IncomingMessage {
    /** What was decided about the request's event when its body was sent. */
    [ADMISSION]?: { eventId: string | undefined }
  }
}

// Aborted by the client or by health's shutdown: that is no error of the request.
const ABORTED = new Set(['client_disconnect', 'SHUTDOWN'])

const A_USER: AnswerRule = {
  allows: (answer) => answer === undefined || answer === null || isRecord(answer),
  words: 'an object with what is known of the user'
}

/** Captures the requests and jobs of the app that fail, and makes the spans of those that are sampled. */
export function captureFailures(app: FastifyInstance, settings: Settings, connection: Connection): void {
  const { shouldCapture, captureWithoutException = false, eventIdInBody = false, user } = settings
  const { rateLimit, counters } = connection
  const registry = registryOf(app)
  const { observe, report } = registry
  let live: Live | undefined
  let maxCrumbs = maxCrumbsOf(settings.sdk)

  const reportError = (error: unknown): void => report(NAME, error)

  // The same for all requests, which call it as a method of theirs.
  function onLine(this: { sentryMemory: object | undefined }, level: string, message: string | undefined): void {
    if (message !== undefined) keepCrumb(memoryOf(this), level, message, maxCrumbs)
  }

  function start(work: Work): void {
    work.onLine = onLine
    if (live) live.scopes.arrive(work)
    // Of an app that never listens, such as a function in a cloud.
    else connection.connectLater()
  }

  /** Calls a function of the user's in the scopes of the work, which a response may have closed outside of. */
  function askIn<Answer>(work: Work, ask: () => Answer): Answer {
    return live ? live.scopes.run(work, ask) : ask()
  }

  function isWanted(observation: RequestObservation, outcome: Outcome): boolean {
    const { statusCode, error, errorType } = outcome
    if ((errorType !== undefined && ABORTED.has(errorType)) || isShed(outcome)) return false
    const rule = hasFailed(outcome) || (captureWithoutException && error === undefined && statusCode >= 500)
    if (!shouldCapture) return rule
    const ask = (): boolean => askIn(observation, () => shouldCapture(outcome, observation))
    return answerOf('shouldCapture', ask, rule, reportError, YES_OR_NO)
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
  function send(work: Work, eventId: string, error: unknown, capture: (live: Live, scope: Scope) => void): void {
    work.sentryEventId = eventId
    connection.capture((live, happenedAt) => {
      // Another request may have failed by the same object since this one was admitted.
      if (isCaptured(error)) return counters.dropped.add('already_captured')
      try {
        live.scopes.run(work, () => {
          const scope = stamp(live.Sentry.getCurrentScope().clone(), happenedAt)
          // Our own client scrubs all of its events, by the rules of the app that has opened it.
          if (settings.scrub && (live.isForeign || connection.rules !== registry)) {
            scope.addEventProcessor((event) => scrubEvent(event, registry.redactor))
          }
          capture(live, scope)
        })
      } catch (error) {
        work.sentryEventId = undefined
        counters.dropped.add('unreadable')
        report(NAME, error)
      }
    })
  }

  function captureRequest(observation: RequestObservation, outcome: Outcome): void {
    const { raw, request } = observation
    if (!isWanted(observation, outcome)) return
    const { eventId } = raw[ADMISSION] ?? { eventId: admit(observation.route, outcome.error) }
    if (eventId === undefined) return
    const ask = request && user && (() => askIn(observation, () => user(request)))
    const identified = ask && answerOf('user', ask, undefined, reportError, A_USER)
    send(observation, eventId, outcome.error, ({ client }, scope) => {
      if (identified) scope.setUser(identified)
      captureFailure(client, scope, observation, outcome, eventId, settings.tagFields)
    })
  }

  observe({
    name: NAME,
    start,
    end(observation, outcome) {
      captureRequest(observation, outcome)
      const { sentryMemory } = observation
      if (live && sentryMemory instanceof Memory && sentryMemory.span) {
        endSpan(live, sentryMemory.span, outcome.statusCode)
      }
    }
  })
  observe({
    name: NAME,
    kind: 'job',
    start,
    end(observation, { result, error, errorType, isLast }) {
      if (result !== 'failed' || !isLast || errorType === 'SHUTDOWN') return
      const eventId = admit(observation.job, error)
      if (eventId === undefined) return
      send(observation, eventId, error, ({ client }, scope) =>
        captureJob(client, scope, observation, error, eventId, settings.tagFields)
      )
    }
  })
  connection.onLive((opened) => {
    live = opened
    maxCrumbs = maxCrumbsOf(opened.client.getOptions())
    const { isTracing, scopes } = opened
    if (!scopes.areFound) {
      observe({ name: NAME, run: scopes.run, resume: scopes.run })
      observe({ name: NAME, kind: 'job', run: scopes.run, resume: scopes.run })
    }
    if (isTracing) observe({ name: NAME, run: serverSpans(opened) })
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
