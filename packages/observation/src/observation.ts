import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import { type Context, isSpanContextValid, type SpanContext, trace } from '@opentelemetry/api'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { RouteObservability } from './index.ts'
import type { Refusal } from './registry.ts'
import { currentScope, type Scope } from './scope.ts'

/** Where Node's objects carry their observation: a WeakMap costs each request more, and the garbage collector most. */
export const OBSERVATION: unique symbol = Symbol('fastify-observability.observation')

declare module 'node:http' {
  interface IncomingMessage {
    [OBSERVATION]?: Observation
  }
  interface OutgoingMessage {
    [OBSERVATION]?: Observation
  }
}

declare module 'node:stream' {
  interface Duplex {
    [OBSERVATION]?: Observation
  }
}

/** How a request ended, computed once for all observers. */
export interface Outcome {
  /**
   * The status sent; 101 for an upgraded connection; 400 or 408 for a body that the parser refused. 499 when the connection
   * closed before any headers were sent, as nginx logs it.
   */
  statusCode: number
  /** Whether the status went out. */
  headersSent: boolean
  /** The connection closed before the response was finished. */
  aborted: boolean
  /** What was thrown or sent as an error, `undefined` if nothing was. */
  error: unknown
  /**
   * A stable name of few values: `client_disconnect` when the client left; the error's code or class when it broke the
   * response or made it a 5xx; the parser's code for a body that it refused; the status for a 5xx without an error; else
   * `undefined`.
   */
  errorType: string | undefined
  /** From the arrival of the request to the close of the response, monotonic, in milliseconds. */
  durationMs: number
  /** From the arrival to the moment the headers were written, those of an upgrade too; `undefined` if none were. */
  ttfbMs: number | undefined
  /** Bytes of body that have arrived, without any transfer encoding. */
  requestBytes: number
  /** Bytes of body that the application has written, before any transfer encoding. */
  responseBytes: number
}

// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#common-attributes
const METHODS = new Set(['CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE'])

const UNCONFIGURED: RouteObservability = Object.freeze({})

/** What happens to a request, for the plugin to act on. */
export interface Lifecycle {
  headers(observation: Observation, written: unknown): void
  closed(observation: Observation): void
}

/** One request, from its arrival to the close of its response. */
export class Observation implements Scope {
  readonly raw: IncomingMessage
  readonly response: ServerResponse
  /** The request's, read once: Node looks for them at each reading. */
  readonly headers: IncomingHttpHeaders
  /** `undefined` when Fastify answers before it has made one: a URL it cannot decode, a closing server. */
  request: FastifyRequest | undefined
  reply: FastifyReply | undefined
  /** The route's pattern (`/orders/:id`), or `unmatched`. */
  route = 'unmatched'
  config: RouteObservability = UNCONFIGURED
  /** The level that the route asks for. */
  logLevel: string | undefined
  /** `performance.now()` at the arrival. */
  readonly startedAt: number = performance.now()
  /** One of the methods that HTTP defines, or `_OTHER`: over HTTP/2 a caller can send any word. */
  readonly method: string
  private address: string | undefined
  private ip: string | undefined
  /** Fastify's, or what request-id gives a request that Fastify has made none for. */
  requestId: string | undefined
  /** Whether the observers have been told. */
  started = false
  /** Set by request-id. */
  correlationId: string | undefined
  /** The server span; set by tracing, or found active when another instrumentation has opened one. */
  spanContext: SpanContext | undefined
  /** OpenTelemetry's, for tracing to set; at first the one that the request came in. */
  context: Context | undefined = currentScope()?.context
  /** Set by sentry: the event that tells of this request's failure. */
  sentryEventId: string | undefined
  /** Hears of each line of the request's log, as it was written: without secrets. Set by who wants them. */
  onLine: ((level: string, message: string | undefined) => void) | undefined
  error: unknown
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
  /** Whether the last chunk is being written. */
  ending = false
  /** Set when the response has closed. */
  outcome: Outcome | undefined

  private readonly lifecycle: Lifecycle

  constructor(raw: IncomingMessage, response: ServerResponse, lifecycle: Lifecycle) {
    this.raw = raw
    this.response = response
    this.headers = raw.headers
    this.method = raw.method !== undefined && METHODS.has(raw.method) ? raw.method : '_OTHER'
    // Asked for now, because a connection that has gone does not know it any more.
    this.address = raw.socket.remoteAddress
    this.lifecycle = lifecycle
    const active = trace.getActiveSpan()?.spanContext()
    if (active && isSpanContextValid(active)) this.spanContext = active
  }

  /** Called when Fastify has found the route. */
  adopt(request: FastifyRequest, reply: FastifyReply): void {
    // Made anew at each reading.
    const { url, config, logLevel } = request.routeOptions
    this.request = request
    this.reply = reply
    this.requestId = request.id
    this.config = config?.observability ?? UNCONFIGURED
    this.logLevel = logLevel
    // The 404 handler has none.
    if (url !== undefined) this.route = url
    // HTTP/2 takes a stream from its socket before it says that the stream has closed.
    if (this.raw.httpVersionMajor > 1) this.address = ipOf(request) ?? this.address
  }

  get observation(): this {
    return this
  }

  /** The path without its query. */
  get path(): string {
    const { url = '' } = this.raw
    const query = url.indexOf('?')
    return query === -1 ? url : url.slice(0, query)
  }

  /** As `trustProxy` says, where Fastify got that far. */
  get clientAddress(): string | undefined {
    if (!this.request || this.raw.httpVersionMajor > 1) return this.address
    this.ip ??= this.request.ip
    return this.ip
  }

  /** Called with the last argument of the first writeHead. */
  beforeHeaders(written: unknown): void {
    this.lifecycle.headers(this, written)
  }

  closed(): void {
    this.lifecycle.closed(this)
  }

  /** Sets a header of the answer, while none is sent. */
  setHeader(name: string, value: string): void {
    if (this.reply) this.reply.header(name, value)
    else if (!this.response.headersSent) this.response.setHeader(name, value)
  }

  close(): Outcome {
    const { response, error, refusal, startedAt, headersAt, requestBytes, responseBytes } = this
    const upgraded = this.isUpgraded()
    const firstByteAt = upgraded ? this.upgradedAt : headersAt
    const headersSent = upgraded || response.headersSent
    const aborted = !upgraded && !isFinished(response)
    const statusCode = upgraded ? 101 : headersSent ? response.statusCode : 499
    const outcome: Outcome = {
      statusCode,
      headersSent,
      aborted,
      error,
      errorType: this.errorType(statusCode, aborted),
      durationMs: performance.now() - startedAt,
      ttfbMs: firstByteAt === undefined ? undefined : firstByteAt - startedAt,
      requestBytes,
      responseBytes
    }
    if (!refusal || headersSent) return outcome
    const { statusCode: refused, errorType } = refusal
    return { ...outcome, statusCode: refused, headersSent: true, aborted: false, error: refusal.error, errorType }
  }

  /** How it would end now if this status went out whole. */
  outlook(statusCode: number): Outcome {
    const errorType = this.errorType(statusCode, false)
    return { ...this.close(), statusCode, headersSent: true, aborted: false, errorType }
  }

  // A WebSocket's 101 is written past the response, to the socket.
  private isUpgraded(): boolean {
    const { headers, response, reply } = this
    const isHandedOver = this.upgradedAt !== undefined && reply?.sent === true
    return isHandedOver && headers.upgrade !== undefined && !response.headersSent && !response.writableEnded
  }

  private errorType(statusCode: number, aborted: boolean): string | undefined {
    if (aborted && !this.broken) return 'client_disconnect'
    if (statusCode < 500 && !this.broken) return undefined
    // A code may be empty.
    return nameOf(this.error) || String(statusCode)
  }
}

function isFinished(response: ServerResponse): boolean {
  // light-my-request emits `close` with its output still on its null socket.
  if ('isLightMyRequest' in response) return response.writableEnded
  // HTTP/2's response has a stream instead, and emits `finish` for aborted ones too.
  if ('stream' in response && isHttp2Stream(response.stream)) return response.writableEnded && !response.stream.aborted
  return response.writableFinished
}

/** Asks `trustProxy`, which may be a function of the user's and throw. */
function ipOf(request: FastifyRequest): string | undefined {
  try {
    return request.ip
  } catch {
    return undefined
  }
}

function isHttp2Stream(stream: unknown): stream is { aborted: boolean } {
  return typeof stream === 'object' && stream !== null && 'aborted' in stream
}

/** The code or class of an error, which may be anything and may throw when looked at. */
function nameOf(error: unknown): string | undefined {
  try {
    if (!(error instanceof Error)) return undefined
    return 'code' in error && typeof error.code === 'string' ? error.code : error.name
  } catch {
    return undefined
  }
}
