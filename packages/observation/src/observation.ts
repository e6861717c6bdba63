import type { SpanContext } from '@opentelemetry/api'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { AddedFields, KeptValue } from './fields.ts'
import type { RouteObservability } from './route.ts'
import type { Work } from './work.ts'

/** One request, from its arrival to the close of its response. */
export interface Observation extends Work {
  /** The name of a job, which a request is not. */
  readonly job?: undefined
  /** A method that HTTP defines or that a route of the app has, or `_OTHER`: over HTTP/2 a caller can send any word. */
  readonly method: string
  /** The route's pattern (`/orders/:id`), or `unmatched`. */
  readonly route: string
  /** The path of the request, without its query. */
  readonly path: string
  /** `undefined` until request-id, or Fastify, has decided it. */
  readonly requestId: string | undefined
  /** `undefined` without request-id. */
  readonly correlationId: string | undefined
  /** The server span; `undefined` where the request is not traced. */
  readonly spanContext: SpanContext | undefined
  /** As `trustProxy` says, where Fastify got that far; else the socket's. */
  readonly clientAddress: string | undefined
  /** `undefined` when Fastify answers before it has made one: a URL it cannot decode, a closing server. */
  readonly request: FastifyRequest | undefined
  /** `undefined` where `request` is. */
  readonly reply: FastifyReply | undefined
  /** What the route says about its observation. */
  readonly config: RouteObservability
  /** `undefined` until the response has closed. */
  readonly outcome: Outcome | undefined
  /** The fields that were added, as all signals have them. */
  readonly fields: ReadonlyMap<string, KeptValue>
  /**
   * Adds fields to the request's canonical line, its server span and its error event: the same value in all of them, without
   * secrets; the last one of a name wins. 64 fields and 4,096 characters a request are kept; what is beyond, comes after the
   * end, has a name of the suite's own or cannot be kept is counted in `observability_fields_dropped_total`. Never throws.
   */
  add(fields: AddedFields): void
  /**
   * Makes this the request's error, for code that answers errors itself: Fastify learns of those that are thrown or sent
   * only. An earlier error becomes its cause. Below status 400 the request then counts as failed too.
   */
  fail(error: unknown): void
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
   * response, made it a 5xx or was given to `fail` below 400; the parser's code for a body that it refused; the status for
   * a 5xx without an error; else `undefined`.
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

/** What Fastify's `clientErrorHandler` refuses, with the status that its default one sends. */
export interface Refusal {
  /** The status that the caller was sent. */
  statusCode: 400 | 408 | 431
  /** What the parser has thrown. */
  error: Error
  /** The parser's code, such as `HPE_INVALID_METHOD`. */
  errorType: string
  /** The socket's address; `undefined` when it has none any more. */
  clientAddress: string | undefined
}
