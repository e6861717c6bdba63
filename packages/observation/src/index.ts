import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { soon } from './ends.ts'
import { listenToFastify } from './fastify-lines.ts'
import { type Lifecycle, OBSERVATION, Observation, type Outcome } from './observation.ts'
import { createRegistry, type ObservationRegistry, type Refusal } from './registry.ts'
import { watchRequest } from './request.ts'
import { watchResponse } from './response.ts'
import { runIn, runOutside } from './scope.ts'

export { soon, tellNow } from './ends.ts'
export { type Hosts, hostMatcher, hostsSchema } from './hosts.ts'
export { Observation, type Outcome } from './observation.ts'
export { parseEnv, parseOptions, waitSchema } from './options.ts'
export { createRedactor, type RedactOptions, type Redactor } from './redact.ts'
export { atMostEvery, type ObservationRegistry, type Observer, type Refusal, type Series } from './registry.ts'
export { currentObservation, currentScope, runIn, type Scope } from './scope.ts'
export { resolveService, type Service, type ServiceOptions, serviceSchema } from './service.ts'

declare module 'fastify' {
  interface FastifyInstance {
    observation: ObservationRegistry
  }
  interface FastifyContextConfig {
    observability?: RouteObservability
  }
  interface FastifySchema {
    /** Keeps a route out of the OpenAPI document, as @fastify/swagger reads it. */
    hide?: boolean
  }
}

/** What a route can say about its own observation: `config: { observability: { log: false } }`. */
export interface RouteObservability {
  /**
   * `false`: no canonical line. `'failures'`: only for answers of 500 and above and for those that took over a second.
   * A level: lines of answers below 500 have this one instead of one by status. @default true
   */
  log?: boolean | 'failures' | LogLevel
  /**
   * `false`: no span, and none for what the request calls. `{ ratio }`: the share of the traces beginning here that are
   * recorded, from 0 to 1; a caller's decision is followed. @default true
   */
  trace?: boolean | { ratio: number }
  /** `false`: answered even under pressure. @default true */
  shed?: boolean
  /** `false`: not in the request metrics. @default {} */
  metrics?: RouteMetrics | false
}

/** What a route can say about its metrics. */
export interface RouteMetrics {
  /** `false`: not in the duration, for streams and long polls; they are counted by their time to first byte. @default true */
  duration?: boolean
  /** Upper bounds in seconds, ascending, of its duration and its time to first byte. @default the metrics part's */
  durationBuckets?: readonly number[]
}

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

const NAME = '@fastify-observability/observation'
// Most of the gain, and little that is still held when the garbage collector comes.
const MAX_ENDED = 8
const MAX_ENDED_MS = 10

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

// Node has set the timer of the idle connection while it served this request, and a timer keeps what it was set for: the
// request and all its objects, until the next one comes.
function renewTimeouts(observations: readonly Observation[]): void {
  for (const { raw } of observations) {
    if (raw.httpVersionMajor > 1) continue
    const { socket } = raw
    // Another request that has come since sets it anew.
    if (socket?.timeout && !socket.destroyed && !socket[OBSERVATION]) socket.setTimeout(socket.timeout)
  }
}

function closed(this: ServerResponse): void {
  this[OBSERVATION]?.closed()
}

/** `performance.now()` when it ended. */
function endOf({ startedAt, outcome }: Observation): number {
  return startedAt + (outcome?.durationMs ?? 0)
}

async function observation(app: FastifyInstance): Promise<void> {
  // Every plugin of the suite registers this one; the first does, the others find it.
  if (app.hasDecorator('observation')) return

  const fastify = listenToFastify(app, {
    isOurs: ({ server }) => server.observation === registry,
    arrived: adopt,
    streamFailed(error, { raw }) {
      const observation = raw[OBSERVATION]
      if (!observation || observation.response.destroyed || raw.socket.destroyed) return
      // Fastify reports the client's leaving this way too.
      if ('code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE') return
      observation.error = error
      observation.broken = true
    }
  })
  const [registry, dispatch] = createRegistry(app, fastify.mute)
  let isClosing = false
  // Told of together: one thing for many requests is quicker than many things for each.
  let ended: Observation[] = []
  function tellEnded(): void {
    const observations = ended
    ended = []
    if (observations.length === 0) return
    dispatch.end(observations)
    runOutside(renewTimeouts, observations)
  }

  /** Whether others may end before it is told of. Of a failure it is told at once. */
  function mayWait(observation: Observation, { aborted, error, errorType }: Outcome): boolean {
    if (aborted || error !== undefined || errorType !== undefined || isClosing) return false
    const [first = observation] = ended
    // Who injects a request looks at once for what it has left.
    const isNear = ended.length < MAX_ENDED && endOf(observation) - endOf(first) < MAX_ENDED_MS
    return isNear && !('isLightMyRequest' in observation.response)
  }

  // Node calls these two: what they throw would end the request or the process.
  const lifecycle: Lifecycle = {
    headers(observation, written) {
      try {
        start(observation)
        dispatch.headers(observation, written)
        completeHeaders(observation, written)
      } catch (error) {
        registry.report(NAME, error)
      }
    },
    closed(observation) {
      if (observation.outcome) return
      try {
        start(observation)
        observation.outcome = observation.close()
        const { socket, httpVersionMajor } = observation.raw
        if (httpVersionMajor === 1 && socket[OBSERVATION] === observation) socket[OBSERVATION] = undefined
        ended.push(observation)
        if (mayWait(observation, observation.outcome)) soon(tellEnded)
        else tellEnded()
      } catch (error) {
        registry.report(NAME, error)
      }
    }
  }
  app.decorate('observation', registry)

  function arrive(raw: IncomingMessage, response: ServerResponse): Observation {
    const observation = new Observation(raw, response, lifecycle)
    raw[OBSERVATION] = observation
    // For the parser's errors, which HTTP/2 does not have.
    if (raw.httpVersionMajor === 1) raw.socket[OBSERVATION] = observation
    watchRequest(raw, observation)
    watchResponse(response, observation)
    // The one end of success, error, stream, hijack, 404 and abort alike; onResponse misses aborts.
    // Before the listeners of others, because an instrumentation may end its server span in one of those.
    response.prependListener('close', closed)
    return observation
  }

  function adopt(request: FastifyRequest, reply: FastifyReply): Observation {
    const observation = request.raw[OBSERVATION] ?? arrive(request.raw, reply.raw)
    if (!observation.request) observation.adopt(request, reply)
    start(observation)
    return observation
  }

  function start(observation: Observation): void {
    if (observation.started) return
    observation.started = true
    dispatch.start(observation)
  }

  // Fastify writes its reply's headers itself; a hijacked reply, a stream or an early answer does without some of them.
  function completeHeaders({ reply, response }: Observation, written: unknown): void {
    if (!reply) return
    const isWritten = typeof written === 'object' && written !== null
    for (const name of registry.answerHeaders) {
      if (isWritten && name in written) continue
      const value = reply.getHeader(name)
      if (value !== undefined && !response.hasHeader(name)) response.setHeader(name, value)
    }
  }

  // What Fastify answers without telling anybody: URLs it cannot decode, requests to a closing server. Only the root
  // knows that nobody else will.
  if (Object.hasOwn(app, 'server')) {
    app.server.prependListener('request', arrive)
    app.server.prependListener('clientError', (error, socket) => {
      if (socket.destroyed || ('code' in error && error.code === 'ECONNRESET')) return
      const observation = socket[OBSERVATION]
      if (!observation) return dispatch.malformed(refusalOf(error, socket))
      // A body that cannot be parsed ends the request that it came with; one that was not sent whole, the client.
      observation.error ??= error
      if (!('code' in error && error.code === 'HPE_INVALID_EOF_STATE')) observation.refusal = refusalOf(error, socket)
    })
  }

  app.addHook('onRequest', (request, reply, done) => {
    const observation = adopt(request, reply)
    runIn(observation, dispatch.run, observation, done)
  })

  app.addHook('preClose', (done) => {
    isClosing = true
    tellEnded()
    done()
  })

  app.addHook('onError', ({ raw }, _reply, error, done) => {
    const observation = raw[OBSERVATION]
    if (observation) observation.error = error
    done()
  })
}

export default fp(observation, { name: NAME, fastify: '^5.12.0' })
