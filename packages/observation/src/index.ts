import { AsyncLocalStorage } from 'node:async_hooks'
import { isSpanContextValid, type SpanContext, trace } from '@opentelemetry/api'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

export { parseEnv, parseOptions } from './options.ts'
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
  /** `false`: no canonical line. `'failures'`: only for answers of 500 and above. @default true */
  log?: boolean | 'failures'
  /** `false`: no span, and none for what the request calls. @default true */
  trace?: boolean
  /** `false`: answered even under pressure. @default true */
  shed?: boolean
}

/** How a request ended, computed once for all observers. */
export interface Outcome {
  /** The status sent. 499 when the client left before any headers were sent, as nginx logs it. */
  statusCode: number
  /** Whether the status went out. */
  headersSent: boolean
  /** The connection closed before the response was finished. */
  aborted: boolean
  /** What was thrown or sent as an error, `undefined` if nothing was. */
  error: unknown
  /** `client_disconnect` for aborts; for 5xx the error's code or class, else the status. A stable, low-cardinality name. */
  errorType: string | undefined
  /** From the first hook to the close of the response, monotonic, in milliseconds. */
  durationMs: number
}

/**
 * Sees every request of the app. `start` runs in the order of registration, `end` in the reverse order.
 * A throw is counted and logged, and never reaches the request or another observer.
 */
export interface Observer {
  name: string
  /** The request has arrived; nothing is sent yet. */
  start?(observation: Observation): void
  /** Runs the rest of the request inside a context of the observer's own. Must call `next` synchronously. */
  run?(observation: Observation, next: () => void): void
  /** The raw response has closed. */
  end?(observation: Observation, outcome: Outcome): void
}

export interface ObservationRegistry {
  /** Adds an observer for the requests to come. */
  observe(observer: Observer): void
  /** How often each observer has thrown. */
  readonly errors: ReadonlyMap<string, number>
}

/** One request, from its first hook to the close of its response. */
export class Observation {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  /** The route's pattern (`/orders/:id`), or `unmatched`. */
  readonly route: string
  readonly config: RouteObservability
  /** `performance.now()` at the start. */
  readonly startedAt: number = performance.now()
  /** Set by request-id. */
  correlationId: string | undefined
  /** The server span; set by tracing, or found active when another instrumentation has opened one. */
  spanContext: SpanContext | undefined
  error: unknown
  /** Set when the response has closed. */
  outcome: Outcome | undefined

  constructor(request: FastifyRequest, reply: FastifyReply) {
    const { url, config } = request.routeOptions
    this.request = request
    this.reply = reply
    this.route = request.is404 || url === undefined ? 'unmatched' : url
    this.config = config?.observability ?? {}
    const active = trace.getActiveSpan()?.spanContext()
    if (active && isSpanContextValid(active)) this.spanContext = active
  }

  get requestId(): string {
    return this.request.id
  }

  get method(): string {
    return this.request.method
  }

  /** The path without its query. */
  get path(): string {
    const { url } = this.request
    const query = url.indexOf('?')
    return query === -1 ? url : url.slice(0, query)
  }
}

const OBSERVATION = Symbol('fastify-observability.observation')
const MINUTE_MS = 60_000
const storage = new AsyncLocalStorage<Observation>()

/** The observation of the request that the calling code works for, `undefined` outside of one. */
export function currentObservation(): Observation | undefined {
  return storage.getStore()
}

/** A gate that opens at most once in `intervalMs`: for warnings that must not flood. */
export function atMostEvery(intervalMs: number): () => boolean {
  let last = Number.NEGATIVE_INFINITY
  return () => {
    const now = performance.now()
    if (now - last < intervalMs) return false
    last = now
    return true
  }
}

function outcomeOf({ reply, error, startedAt }: Observation): Outcome {
  const { raw } = reply
  const { headersSent } = raw
  // light-my-request emits `close` with its output still on its null socket.
  const aborted = 'isLightMyRequest' in raw ? !raw.writableEnded : !raw.writableFinished
  const statusCode = headersSent ? raw.statusCode : 499
  const durationMs = performance.now() - startedAt
  return { statusCode, headersSent, aborted, error, errorType: errorType(statusCode, aborted, error), durationMs }
}

function errorType(statusCode: number, aborted: boolean, error: unknown): string | undefined {
  if (aborted) return 'client_disconnect'
  if (statusCode < 500) return undefined
  if (!(error instanceof Error)) return String(statusCode)
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}

async function observation(app: FastifyInstance): Promise<void> {
  // Every plugin of the suite registers this one; the first does, the others find it.
  if (app.hasDecorator('observation')) return

  const observers: Observer[] = []
  const runners: Required<Pick<Observer, 'name' | 'run'>>[] = []
  const errors = new Map<string, number>()
  const mayLog = atMostEvery(MINUTE_MS)

  function report(observer: string, error: unknown): void {
    errors.set(observer, (errors.get(observer) ?? 0) + 1)
    if (mayLog()) app.log.error({ err: error, observer }, 'an observer failed; the request is not affected')
  }

  function run(observation: Observation, index: number, next: () => void): void {
    const runner = runners[index]
    if (runner === undefined) {
      next()
      return
    }
    let entered = false
    const inner = () => {
      entered = true
      run(observation, index + 1, next)
    }
    try {
      runner.run(observation, inner)
    } catch (error) {
      // Once inside, it is the application's error and not the observer's.
      if (entered) throw error
      report(runner.name, error)
    }
    if (!entered) inner()
  }

  function end(observation: Observation): void {
    const outcome = outcomeOf(observation)
    observation.outcome = outcome
    for (const observer of observers.toReversed()) {
      try {
        observer.end?.(observation, outcome)
      } catch (error) {
        report(observer.name, error)
      }
    }
  }

  app.decorate('observation', {
    observe(observer: Observer) {
      observers.push(observer)
      if (observer.run) runners.push({ name: observer.name, run: observer.run.bind(observer) })
    },
    errors
  })
  app.decorateRequest(OBSERVATION, null)

  app.addHook('onRequest', (request, reply, done) => {
    const observation = new Observation(request, reply)
    request.setDecorator(OBSERVATION, observation)
    // `close` is the one end of success, error, stream, hijack, 404 and abort alike; onResponse misses aborts.
    reply.raw.on('close', () => storage.run(observation, end, observation))
    storage.run(observation, () => {
      for (const observer of observers) {
        try {
          observer.start?.(observation)
        } catch (error) {
          report(observer.name, error)
        }
      }
      run(observation, 0, done)
    })
  })

  app.addHook('onError', (request, _reply, error, done) => {
    const observation = request.getDecorator<Observation | null>(OBSERVATION)
    if (observation) observation.error = error
    done()
  })
}

export default fp(observation, { name: '@fastify-observability/observation', fastify: '^5.12.0' })
