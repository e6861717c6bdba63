import type { IncomingMessage } from 'node:http'
import observation, { currentObservation } from '@fastify-observability/observation'
import {
  type Hosts,
  hostMatcher,
  hostsSchema,
  parseOptions,
  type RequestObservation,
  registryOf
} from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'
import { onOutgoing } from './outgoing.ts'
import { uuidv7 } from './uuid.ts'

export interface RequestIdOptions {
  /** Header the request id is read from and echoed on. @default 'x-request-id' */
  header?: string
  /** Header the correlation id is read from and echoed on. @default 'x-correlation-id' */
  correlationHeader?: string
  /**
   * Whether safe ids of a caller are kept. A predicate is asked for each request, before Fastify has made one; `false`
   * when it throws.
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
   * Sends `server-timing: total;dur=`, the milliseconds until the headers were written.
   * @default true
   * @see https://www.w3.org/TR/server-timing/
   */
  serverTiming?: boolean
}

const NAME = '@fastify-observability/request-id'
const PREDICATE_RULE = 'a boolean or a function'
const headerName = v.optional(v.pipe(v.string('a header name'), v.regex(/^[\w!#$%&'*+.^`|~-]+$/, 'a header name')))
const predicate = v.custom<(request: IncomingMessage) => boolean>((value) => typeof value === 'function')
const schema = v.strictObject({
  header: headerName,
  correlationHeader: headerName,
  trustInbound: v.optional(v.union([v.boolean(), predicate], PREDICATE_RULE)),
  propagateTo: hostsSchema,
  serverTiming: v.optional(v.boolean())
})

// Callers' ids end up in logs and headers: accept only short, plain ones.
const MAX_LENGTH = 128
const PLAIN = /^[\w.:@+/=-]+$/

type Refused = 'empty' | 'too long' | 'unsafe characters' | 'repeated'

function refuse(id: string | string[]): Refused | undefined {
  if (typeof id !== 'string') return 'repeated'
  if (id === '') return 'empty'
  if (id.length > MAX_LENGTH) return 'too long'
  return PLAIN.test(id) ? undefined : 'unsafe characters'
}

async function requestId(app: FastifyInstance, options: RequestIdOptions): Promise<void> {
  const parsed = parseOptions<RequestIdOptions>(NAME, schema, options)
  const { trustInbound = true, propagateTo = [/^/], serverTiming = true } = parsed
  const header = (parsed.header ?? 'x-request-id').toLowerCase()
  const correlationHeader = (parsed.correlationHeader ?? 'x-correlation-id').toLowerCase()

  await app.register(observation)
  const { answerHeaders, observe, report } = registryOf(app)

  function isTrusted(raw: IncomingMessage): boolean {
    if (typeof trustInbound === 'boolean') return trustInbound
    try {
      return trustInbound(raw) === true
    } catch (error) {
      report(NAME, error)
      return false
    }
  }

  /** The caller's id where it is safe and trusted. */
  function inbound(raw: IncomingMessage, id: string | string[] | undefined): string | undefined {
    return typeof id === 'string' && refuse(id) === undefined && isTrusted(raw) ? id : undefined
  }

  function noteReplaced({ headers, request, requestId }: RequestObservation): void {
    const id = headers[header]
    if (id === undefined || id === requestId) return
    // Never the value: it is somebody else's.
    request?.log.debug({ header, length: id.length, reason: refuse(id) ?? 'untrusted' }, 'inbound id replaced')
  }

  const unchecked = Boolean(app.initialConfig.requestIdHeader)
  app.setGenReqId((raw) => inbound(raw, raw.headers[header]) ?? uuidv7())
  for (const name of [header, correlationHeader, TIMING]) answerHeaders.add(name)
  observe({
    name: NAME,
    start(observation) {
      const { headers, raw } = observation
      // Fastify's own requestIdHeader takes ids as they come.
      if (unchecked && observation.request) {
        observation.requestId = inbound(raw, headers[header]) ?? uuidv7()
        observation.request.id = observation.requestId
      }
      observation.requestId ??= inbound(raw, headers[header]) ?? uuidv7()
      observation.correlationId = inbound(raw, headers[correlationHeader]) ?? observation.requestId
      observation.setHeader(header, observation.requestId)
      observation.setHeader(correlationHeader, observation.correlationId)
      noteReplaced(observation)
    },
    ...(serverTiming && { headers: (observation, written) => sendServerTiming(observation, written, header) })
  })

  const mayCarry = hostMatcher(propagateTo)
  function carry(host: string, set: (name: string, value: string) => void): void {
    const current = currentObservation()
    if (current?.request?.server.observation !== app.observation || current.outcome || !mayCarry(host)) return
    if (current.requestId !== undefined) set(header, current.requestId)
    if (current.correlationId !== undefined) set(correlationHeader, current.correlationId)
  }
  const stop = onOutgoing(carry)
  app.addHook('onClose', async () => stop())
}

const TIMING = 'server-timing'
// Small whole numbers have their text at hand, fractions have not.
const TENTHS = ['.0', '.1', '.2', '.3', '.4', '.5', '.6', '.7', '.8', '.9']

function sendServerTiming(observation: RequestObservation, written: unknown, idHeader: string): void {
  const { reply, response, startedAt, headersAt = startedAt, requestId } = observation
  const tenths = Math.round(10 * (headersAt - startedAt))
  const total = `total;dur=${Math.floor(tenths / 10)}${TENTHS[tenths % 10]}`
  // The reply's headers, for they carry this request's id: quicker than to ask and to tell the reply.
  if (isRecord(written) && written[idHeader] === requestId && !(TIMING in written) && !response.hasHeader(TIMING)) {
    written[TIMING] = total
    return
  }
  const own = reply?.getHeader(TIMING)
  observation.setHeader(TIMING, own === undefined ? total : `${own}, ${total}`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export default fp(requestId, { name: NAME, fastify: '^5.12.0' })
