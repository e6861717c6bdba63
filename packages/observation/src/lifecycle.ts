import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { withDocs } from './docs.ts'
import { createFieldRules } from './fields.ts'
import { createJobs, openJobs } from './jobs.ts'
import type { Outcome, Refusal } from './observation.ts'
import type { Observers } from './observers.ts'
import { outcomeOf, outlookOf } from './outcome.ts'
import { decorateWithRegistry } from './registry.ts'
import { type Moments, OBSERVATION, RequestObservation } from './request-observation.ts'
import { routeGuard, spareFromPressure } from './route.ts'
import { currentScope, runIn } from './scope.ts'
import { freeWhenIdle } from './sources/idle.ts'
import { observeLogController } from './sources/log-controller.ts'
import { watchRequest } from './sources/request.ts'
import { watchResponse } from './sources/response.ts'
import { addKnownMethods } from './values/method.ts'

const NAME = '@fastify-observability/observation'
const MAX_NAMED = 10

/** The life of each request of an app, from top to bottom: arrive, adopt, start, headers, close, report. */
export function observeRequests(app: FastifyInstance, observers: Observers): void {
  // Node calls these two: what they throw would end the request or the process.
  const fieldRules = createFieldRules()
  const jobs = createJobs(observers, fieldRules, (names) => {
    const fields = { jobs_count: names.length, jobs: names.slice(0, MAX_NAMED) }
    app.log.warn(withDocs('shutdown-and-crashes', fields), 'closed; jobs were aborted')
  })
  const moments: Moments = {
    fieldRules,
    jobs,
    headers(observation, written) {
      try {
        beforeHeaders(observation, written)
      } catch (error) {
        observers.report(NAME, error)
      }
    },
    holdsAnswers: () => registry.beforeAnswer !== undefined,
    answer(observation, send) {
      try {
        if (!observation.outcome) end(observation, outlookOf(observation, observation.response.statusCode))
      } catch (error) {
        observers.report(NAME, error)
      }
      function release(): void {
        try {
          send()
        } catch (error) {
          // Nobody who called the response's end() is there to receive it.
          observers.report(NAME, error)
          observation.response.destroy()
        }
      }
      const { beforeAnswer = async () => undefined } = registry
      void beforeAnswer().then(release, release)
    },
    close(observation) {
      try {
        close(observation)
      } catch (error) {
        observers.report(NAME, error)
      }
    }
  }

  function arrive(raw: IncomingMessage, response: ServerResponse): RequestObservation {
    const observation = new RequestObservation(raw, response, currentScope()?.context, moments)
    raw[OBSERVATION] = observation
    // For the parser's errors, which HTTP/2 does not have.
    if (raw.httpVersionMajor === 1) raw.socket[OBSERVATION] = observation
    watchRequest(raw, observation)
    watchResponse(response, observation)
    return observation
  }

  function adopt(request: FastifyRequest, reply: FastifyReply): RequestObservation | undefined {
    // @fastify/websocket's injectWS makes a request without one: it is served as without us.
    if (!request.raw.socket) return undefined
    const observation = request.raw[OBSERVATION] ?? arrive(request.raw, reply.raw)
    if (!observation.request) observation.adopt(request, reply)
    start(observation)
    return observation
  }

  function start(observation: RequestObservation): void {
    if (observation.started) return
    observation.started = true
    observers.start(observation)
  }

  function beforeHeaders(observation: RequestObservation, written: unknown): void {
    start(observation)
    observers.headers(observation, written)
    completeHeaders(observation, written)
  }

  // Fastify writes its reply's headers itself; a hijacked reply, a stream or an early answer does without some of them.
  function completeHeaders({ reply, response }: RequestObservation, written: unknown): void {
    if (!reply) return
    const isWritten = typeof written === 'object' && written !== null
    for (const name of registry.answerHeaders) {
      if (isWritten && name in written) continue
      const value = reply.getHeader(name)
      if (value !== undefined && !response.hasHeader(name)) response.setHeader(name, value)
    }
  }

  function close(observation: RequestObservation): void {
    const { socket, httpVersionMajor } = observation.raw
    if (httpVersionMajor === 1) {
      if (socket[OBSERVATION] === observation) socket[OBSERVATION] = undefined
      freeWhenIdle(socket)
    }
    if (!observation.outcome) end(observation, outcomeOf(observation))
  }

  function end(observation: RequestObservation, outcome: Outcome): void {
    start(observation)
    observation.outcome = outcome
    // The event comes in the context of whatever has closed the connection.
    runIn(observation, observers.end, observation, outcome)
  }

  /** Fastify's log controller learns of a request before any hook runs, and of streams that fail without one. */
  const controller = observeLogController(app, {
    isOurs: ({ server }) => server.observation === app.observation,
    arrived: adopt,
    errorAnswered(error, { raw }) {
      raw[OBSERVATION]?.replaceError(error)
    },
    streamFailed(error, { raw }) {
      const observation = raw[OBSERVATION]
      if (!observation || observation.response.destroyed || raw.socket.destroyed) return
      // Fastify reports a client that disconnects this way too.
      if ('code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE') return
      observation.error = error
      observation.broken = true
    }
  })
  const registry = decorateWithRegistry(app, observers, controller, fieldRules, jobs)
  const forgetJobs = openJobs(jobs)
  // Before the hooks that close what jobs need, such as a database's pool.
  app.addHook('preClose', async () => {
    for (const closing of registry.closing) closing()
    await jobs.settle()
  })
  app.addHook('onClose', async () => {
    await jobs.close()
    forgetJobs()
    await Promise.all(Object.values(registry.feeds).map((feed) => feed.end()))
  })

  // What Fastify answers without any hook: URLs it cannot decode, requests to a closing server. Only the root
  // knows that nobody else will.
  if (Object.hasOwn(app, 'server')) {
    app.server.prependListener('request', (raw, response) => {
      // Adapters of serverless platforms emit requests of their own making, without one.
      if (raw.socket) arrive(raw, response)
    })
    app.server.prependListener('clientError', refuse)
  }

  function refuse(error: Error, socket: Duplex): void {
    if (socket.destroyed || ('code' in error && error.code === 'ECONNRESET')) return
    const observation = socket[OBSERVATION]
    if (!observation) {
      observers.malformed(refusalOf(error, socket))
      return
    }
    // A body that cannot be parsed ends the request that it came with; one that was not sent whole, the client.
    observation.error ??= error
    if (!('code' in error && error.code === 'HPE_INVALID_EOF_STATE')) observation.refusal = refusalOf(error, socket)
  }

  const guard = routeGuard()
  app.addHook('onRoute', function (route) {
    addKnownMethods(route.method)
    guard(this, route)
    spareFromPressure(route)
  })

  app.addHook('onRequest', (request, reply, done) => {
    const observation = adopt(request, reply)
    if (observation) runIn(observation, observers.run, observation, done)
    else done()
  })

  app.addHook('onError', ({ raw }, _reply, error, done) => {
    // One before it, reported by the application or answered until an onSend hook threw this one, is its cause.
    raw[OBSERVATION]?.replaceError(error)
    done()
  })
}

/** What the default `clientErrorHandler` makes of a parser's error. */
function refusalOf(error: Error, socket: Duplex): Refusal {
  const code = 'code' in error ? error.code : undefined
  return {
    statusCode: code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : code === 'HPE_HEADER_OVERFLOW' ? 431 : 400,
    error,
    errorType: typeof code === 'string' ? code : error.name,
    clientAddress:
      'remoteAddress' in socket && typeof socket.remoteAddress === 'string' ? socket.remoteAddress : undefined
  }
}
