import type { IncomingMessage } from 'node:http'
import { type Hosts, hostsSchema, parseOptions } from '@fastify-observability/observation/internal'
import * as v from 'valibot'

/** Options of the request-id part. */
export interface RequestIdOptions {
  /** Header the request id is read from and echoed on. @default 'x-request-id' */
  header?: string
  /** Header the correlation id is read from and echoed on. @default 'x-correlation-id' */
  correlationHeader?: string
  /**
   * Whether safe ids of a caller are kept. A function is called for each request, before Fastify has created one; it counts
   * as `false` when it throws, is async or returns no boolean.
   * @default true
   */
  trustInbound?: boolean | ((request: IncomingMessage) => boolean)
  /**
   * Hosts that get both ids with the calls made while serving a request, over fetch, undici and http. A string stands for
   * the host and its subdomains. `[]` for none.
   * @default every host
   */
  propagateTo?: Hosts
  /**
   * Sends `server-timing: total;dur=`, the milliseconds until the headers were written, and for sampled requests
   * `traceparent;desc=`, by which a browser links its own trace; that one not with `{ traceparent: false }`.
   * @default true
   * @see https://www.w3.org/TR/server-timing/
   */
  serverTiming?:
    | boolean
    | {
        /** Whether sampled requests have it too. @default true */
        traceparent?: boolean
      }
}

export const NAME = '@fastify-observability/request-id'

const PREDICATE_RULE = 'a boolean or a function'
const headerName = v.optional(v.pipe(v.string('a header name'), v.regex(/^[\w!#$%&'*+.^`|~-]+$/, 'a header name')))
const predicate = v.custom<(request: IncomingMessage) => boolean>((value) => typeof value === 'function')
const schema = v.strictObject({
  header: headerName,
  correlationHeader: headerName,
  trustInbound: v.optional(v.union([v.boolean(), predicate], PREDICATE_RULE)),
  propagateTo: hostsSchema,
  serverTiming: v.optional(
    v.union([v.boolean(), v.strictObject({ traceparent: v.optional(v.boolean()) })], 'a boolean or { traceparent }')
  )
})

/** @throws TypeError naming option, value and what is allowed. */
export function resolveOptions(options: RequestIdOptions) {
  const {
    header = 'x-request-id',
    correlationHeader = 'x-correlation-id',
    trustInbound = true,
    propagateTo = [/^/],
    serverTiming = true
  } = parseOptions<RequestIdOptions>(NAME, schema, options)
  return {
    header: header.toLowerCase(),
    correlationHeader: correlationHeader.toLowerCase(),
    trustInbound,
    propagateTo,
    serverTiming
  }
}
