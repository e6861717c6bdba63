import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import { type Context, isSpanContextValid, type SpanContext, trace } from '@opentelemetry/api'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type AddedFields, type FieldRules, KeptFields, type KeptValue, NO_FIELDS } from './fields.ts'
import type { Observation, Outcome, Refusal } from './observation.ts'
import type { RouteObservability } from './route.ts'
import { hasSentHeaders } from './values/headers-sent.ts'
import { knownMethod } from './values/method.ts'

/** Where Node's objects carry their observation: a WeakMap costs each request more, and the garbage collector most. */
export const OBSERVATION: unique symbol = Symbol('fastify-observability.observation')

declare module 'node:http' {
  interface IncomingMessage {
    [OBSERVATION]?: RequestObservation
  }
  interface OutgoingMessage {
    [OBSERVATION]?: RequestObservation
  }
}

declare module 'node:stream' {
  interface Duplex {
    [OBSERVATION]?: RequestObservation
  }
}

/** What the parts add to a request: each slot has one writer, and any part reads it. */
export interface Slots {
  /** Written by request-id, which gives one to requests that Fastify has made none for too. */
  requestId: string | undefined
  /** Written by request-id. */
  correlationId: string | undefined
  /** The server span. Written by tracing, or by the observation where another instrumentation has opened one. */
  spanContext: SpanContext | undefined
  /** OpenTelemetry's. At first the one that the request arrived in; written by tracing. */
  context: Context | undefined
  /** The event of this request's failure. Written by sentry. */
  sentryEventId: string | undefined
  /** Receives each line of the request's log, as it was written: without secrets. Written by sentry, called by logging. */
  onLine: LineReceiver | undefined
  /** What Sentry is to know of the request. Written by sentry. */
  sentryMemory: object | undefined
  /** Lines below the level, until the request has ended. Written by logging where it keeps what failed. */
  heldLines: object | undefined
  /** The calls of databases made for it. Written by tracing. */
  databaseCalls: number
  /** Milliseconds that those took which have ended, one added to the other. Written by tracing. */
  databaseMs: number
  /** Whether code of the request has run in another context than `context`. Written by tracing. */
  hasInnerContexts: boolean
}

/** Called as a method of the request or job that has written the line. */
export type LineReceiver = (
  this: { sentryMemory: object | undefined },
  level: string,
  message: string | undefined
) => void

/** What the observations of an app share: the moments that Node reports to them, and the rules of their fields. */
export interface Moments {
  readonly fieldRules: FieldRules
  readonly jobs: object
  headers(observation: RequestObservation, written: unknown): void
  /** Whether answers are held back, to be sent by `answer`. */
  holdsAnswers(): boolean
  /** The last chunk is about to be written, by `send`. */
  answer(observation: RequestObservation, send: () => void): void
  close(observation: RequestObservation): void
}

/** Methods that a response has had of its own before it was observed. */
export type ResponseMethods = Partial<Pick<ServerResponse, 'writeHead' | 'write' | 'end'>>

// As deep as the logs follow them.
const MAX_CAUSES = 8
const ORIGIN = /^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i
const UNCONFIGURED: RouteObservability = Object.freeze({})

/** The data of one request, as the parts see and complete it. */
export class RequestObservation implements Observation, Slots {
  readonly raw: IncomingMessage
  readonly response: ServerResponse
  /** The request's, read once: Node assembles them at each reading. */
  readonly headers: IncomingHttpHeaders
  /** `performance.now()` at the arrival. */
  readonly startedAt: number = performance.now()
  readonly method: string
  /** As it came, or as `rewriteUrl` has made it: middleware cuts that of the raw request, and may answer so. */
  url: string
  request: FastifyRequest | undefined
  reply: FastifyReply | undefined
  route = 'unmatched'
  config: RouteObservability = UNCONFIGURED
  /** The level that the route asks for. */
  logLevel: string | undefined
  private address: string | undefined
  private ip: string | undefined

  requestId: string | undefined
  correlationId: string | undefined
  spanContext: SpanContext | undefined
  context: Context | undefined
  sentryEventId: string | undefined
  onLine: Slots['onLine']
  sentryMemory: object | undefined
  heldLines: object | undefined
  databaseCalls = 0
  databaseMs = 0
  hasInnerContexts = false

  /** Whether the observers have received its start. */
  started = false
  error: unknown
  /** The application has called `fail`. */
  failed = false
  /** What Fastify answers, to the socket, when the body cannot be parsed. */
  refusal: Refusal | undefined
  /** `performance.now()` when the headers were written. */
  headersAt: number | undefined
  /** `performance.now()` when a request for an upgrade was first answered to. */
  upgradedAt: number | undefined
  requestBytes = 0
  responseBytes = 0
  /** The response could not be finished because its source failed. */
  broken = false
  methods: ResponseMethods | undefined
  /** Values, by names in lower case, in the place of those that code gives to writeHead itself. */
  writtenInstead: Map<string, string> | undefined
  /** Whether the last chunk is being written. */
  ending = false
  /** Whether the last chunk is held back. */
  held = false
  outcome: Outcome | undefined

  added: KeptFields | undefined
  private readonly moments: Moments

  constructor(raw: IncomingMessage, response: ServerResponse, context: Context | undefined, moments: Moments) {
    this.raw = raw
    this.response = response
    this.headers = raw.headers
    this.method = knownMethod(raw.method)
    this.url = raw.url ?? ''
    // Read now, because a connection that has closed does not know it any more.
    this.address = raw.socket.remoteAddress
    this.context = context
    this.moments = moments
    const active = trace.getActiveSpan()?.spanContext()
    if (active && isSpanContextValid(active)) this.spanContext = active
  }

  /** Called when Fastify has found the route. */
  adopt(request: FastifyRequest, reply: FastifyReply): void {
    // Fastify makes these options anew at each reading.
    const { url, config, logLevel } = request.routeOptions
    this.request = request
    this.reply = reply
    this.url = this.raw.url ?? ''
    this.requestId = request.id
    this.config = config?.observability ?? UNCONFIGURED
    this.logLevel = logLevel
    // The 404 handler has no pattern.
    if (url !== undefined) this.route = url
    // HTTP/2 takes a stream from its socket before it says that the stream has closed.
    if (this.raw.httpVersionMajor > 1) this.address = ipOf(request) ?? this.address
  }

  /** As the scope of the code that serves the request. */
  get observation(): this {
    return this
  }

  /** Those of the request's app. */
  get jobs(): object {
    return this.moments.jobs
  }

  get path(): string {
    const { url } = this
    const query = url.indexOf('?')
    const target = query === -1 ? url : url.slice(0, query)
    // Proxies ask for whole URLs. https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
    return target.startsWith('/') ? target : target.replace(ORIGIN, '') || '/'
  }

  get clientAddress(): string | undefined {
    if (!this.request || this.raw.httpVersionMajor > 1) return this.address
    this.ip ??= ipOf(this.request) ?? this.address
    return this.ip
  }

  /** Sets a header of the answer, while none is sent. */
  setHeader(name: string, value: string): void {
    if (this.reply) this.reply.header(name, value)
    else if (!hasSentHeaders(this.response)) this.response.setHeader(name, value)
  }

  /** Sets a header of the answer whose value code that writes the head itself has given to writeHead. */
  overrideWritten(name: string, value: string): void {
    this.writtenInstead ??= new Map()
    this.writtenInstead.set(name, value)
  }

  get fields(): ReadonlyMap<string, KeptValue> {
    return this.added?.byName ?? NO_FIELDS
  }

  add(fields: AddedFields): void {
    const { fieldRules } = this.moments
    if (this.outcome) {
      fieldRules.dropped.add('ended')
      return
    }
    this.added ??= new KeptFields()
    this.added.addAll(fields, fieldRules)
  }

  fail(error: unknown): void {
    if (this.outcome) return
    this.failed = true
    this.replaceError(error)
  }

  /** Makes this the error, and the one before its cause. */
  replaceError(error: unknown): void {
    if (this.error !== undefined && this.error !== error) addCause(error, this.error)
    this.error = error
  }

  /** Called with the last argument of the first writeHead. */
  beforeHeaders(written: unknown): void {
    this.moments.headers(this, written)
  }

  get isHoldable(): boolean {
    return this.moments.holdsAnswers()
  }

  /** Called with what writes the last chunk, where answers are held back. */
  hold(send: () => void): void {
    this.held = true
    this.moments.answer(this, () => {
      this.held = false
      send()
    })
  }

  /** Called when the response has closed; later calls do nothing. */
  close(): void {
    this.moments.close(this)
  }

  /** Ends the observation now, as broken by this error unless another came first; its connection is the caller's to close. */
  abort(error: unknown): void {
    this.error ??= error
    this.broken = true
    this.close()
  }
}

/** Asks `trustProxy`, which may be a function of the user's and throw. */
function ipOf(request: FastifyRequest): string | undefined {
  try {
    return request.ip
  } catch {
    return undefined
  }
}

/** Adds a cause to an error that has none, and may be frozen. */
function addCause(error: unknown, cause: unknown): void {
  if (typeof error !== 'object' || error === null) return
  try {
    if (error instanceof Error && error.cause === undefined && !isCauseOf(cause, error)) {
      Reflect.defineProperty(error, 'cause', { value: cause, configurable: true, enumerable: false, writable: true })
    }
  } catch {
    // An error that cannot be read stays as it is.
  }
}

function isCauseOf(error: unknown, cause: unknown, depth = 0): boolean {
  if (!(error instanceof Error) || depth > MAX_CAUSES) return false
  return error.cause === cause || isCauseOf(error.cause, cause, depth + 1)
}
