import type { IncomingMessage } from 'node:http'
import observation from '@fastify-observability/observation'
import {
  type AnswerRule,
  answerOf,
  currentScope,
  hostMatcher,
  isRecord,
  type RequestObservation,
  registryOf,
  YES_OR_NO
} from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { NAME, type RequestIdOptions, resolveOptions } from './options.ts'
import { type OutgoingHeaders, onOutgoing } from './outgoing.ts'
import { addServerTiming, SERVER_TIMING } from './server-timing.ts'
import { uuidv7 } from './uuid.ts'

export type { RequestIdOptions } from './options.ts'

// Callers' ids end up in logs and headers: accept only short, plain ones.
const MAX_LENGTH = 128
const PLAIN = /^[\w.:@+/=-]+$/
// The application's own ids: what a header can carry.
const SENDABLE = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/
// Those of Fastify's default generator, which are unique in one process only.
const NUMBERED = /^req-[0-9a-z]{1,6}$/
const AN_ID: AnswerRule = {
  allows: (answer) => answer === undefined || SENDABLE.test(textOf(answer) ?? ''),
  words: 'a number, or 1 to 255 printable ASCII characters'
}

type Replaced = 'empty' | 'too long' | 'unsafe characters' | 'repeated'

function reasonToReplace(id: string | string[]): Replaced | undefined {
  if (typeof id !== 'string') return 'repeated'
  if (id === '') return 'empty'
  if (id.length > MAX_LENGTH) return 'too long'
  return PLAIN.test(id) ? undefined : 'unsafe characters'
}

/** An id as a header has it. Any other object or symbol would be the same text for each request, if it has one at all. */
function textOf(id: unknown): string | undefined {
  return ['string', 'number', 'bigint'].includes(typeof id) ? String(id) : undefined
}

/** The generator that the application has set, `undefined` where that is Fastify's default. */
function customGenerator(app: object): ((raw: IncomingMessage) => unknown) | undefined {
  const generator = generatorOf(app)
  if (typeof generator !== 'function' || generator.name === 'defaultGenReqId') return undefined
  return (raw) => Reflect.apply(generator, undefined, [raw])
}

/** The generator of an app, which Fastify's types leave out. */
function generatorOf(app: object): unknown {
  return Reflect.get(app, 'genReqId')
}

async function requestId(app: FastifyInstance, options: RequestIdOptions): Promise<void> {
  const { header, correlationHeader, trustInbound, propagateTo, serverTiming } = resolveOptions(options)
  const withTraceparent = typeof serverTiming === 'boolean' || serverTiming.traceparent !== false

  await app.register(observation)
  const { admit, answerHeaders, jobs, observe, report } = registryOf(app)
  if (!admit(NAME)) return
  const reportError = (error: unknown): void => report(NAME, error)

  function isTrusted(raw: IncomingMessage): boolean {
    if (typeof trustInbound === 'boolean') return trustInbound
    return answerOf('trustInbound', () => trustInbound(raw), false, reportError, YES_OR_NO)
  }

  /** The caller's id in this header where it is safe and trusted. */
  function inbound(raw: IncomingMessage, name: string): string | undefined {
    const id = raw.headers[name]
    return typeof id === 'string' && reasonToReplace(id) === undefined && isTrusted(raw) ? id : undefined
  }

  // The header that Fastify's own option reads ids from, as they come.
  const { requestIdHeader } = app.initialConfig
  const ownHeader = typeof requestIdHeader === 'string' ? requestIdHeader.toLowerCase() : undefined
  const ownGenerator = customGenerator(app)

  /** The id of a request: the caller's, else the one that the application has generated for it, else a new one. */
  function idOf(raw: IncomingMessage, generate: ((raw: IncomingMessage) => unknown) | undefined): string {
    const given = inbound(raw, header) ?? (ownHeader === undefined ? undefined : inbound(raw, ownHeader))
    if (given !== undefined) return given
    if (!generate || (ownHeader !== undefined && raw.headers[ownHeader])) return uuidv7()
    const id = answerOf('genReqId', () => generate(raw), undefined, reportError, AN_ID)
    return id === undefined || NUMBERED.test(String(id)) ? uuidv7() : String(id)
  }

  const generate = (raw: IncomingMessage): string => idOf(raw, ownGenerator)
  app.setGenReqId(generate)
  // What `requestIdHeader` makes of it, which asks the header first.
  const root = generatorOf(app)

  function setIds(observation: RequestObservation): void {
    const { raw, request } = observation
    if (!request) observation.requestId = generate(raw)
    else if (ownHeader !== undefined || generatorOf(request.server) !== root) {
      // A scope of the application has a generator of its own, or Fastify has taken an unchecked id.
      request.id = idOf(raw, () => request.id)
      observation.requestId = request.id
    }
    observation.correlationId = inbound(raw, correlationHeader) ?? observation.requestId
  }

  function logReplaced({ headers, request, requestId }: RequestObservation): void {
    const id = headers[header]
    if (id === undefined || id === requestId) return
    // Never the value: it was chosen by somebody else.
    request?.log.debug({ header, length: id.length, reason: reasonToReplace(id) ?? 'untrusted' }, 'inbound id replaced')
  }

  for (const name of [header, correlationHeader, SERVER_TIMING]) answerHeaders.add(name)
  observe({
    name: NAME,
    start(observation) {
      setIds(observation)
      const { requestId, correlationId } = observation
      if (requestId !== undefined) observation.setHeader(header, requestId)
      if (correlationId !== undefined) observation.setHeader(correlationHeader, correlationId)
      logReplaced(observation)
    },
    headers(observation, written) {
      const { requestId, correlationId } = observation
      const isReplys =
        isRecord(written) && written[header] === requestId && written[correlationHeader] === correlationId
      if (!isReplys) {
        keepHeader(observation, written, header, requestId)
        keepHeader(observation, written, correlationHeader, correlationId)
      }
      if (serverTiming !== false) addServerTiming(observation, written, isReplys, withTraceparent)
    }
  })

  observe({
    name: NAME,
    kind: 'job',
    start(job) {
      job.requestId = uuidv7()
      const given = textOf(job.correlationId)
      job.correlationId = given !== undefined && SENDABLE.test(given) ? given : job.requestId
    }
  })

  const mayCarry = hostMatcher(propagateTo)
  const stop = onOutgoing((host, outgoing) => {
    const current = currentScope()?.observation
    if (current === undefined || current.outcome || !mayCarry(host)) return
    const isOurs = 'job' in current ? current.jobs === jobs : current.request?.server.observation === app.observation
    if (!isOurs) return
    const { requestId, correlationId } = current
    const headers = 'job' in current ? {} : current.headers
    propagate(outgoing, header, requestId, headers[header])
    propagate(outgoing, correlationHeader, correlationId, headers[correlationHeader])
  })
  app.addHook('onClose', async () => {
    await jobs.close()
    stop()
  })
}

/** Sets a header of the answer again which a proxied answer has brought its own value of. */
function keepHeader(observation: RequestObservation, written: unknown, name: string, value: string | undefined): void {
  const { reply, response } = observation
  if (value === undefined) return
  if (isRecord(written) && namesIn(written).includes(name)) observation.overrideWritten(name, value)
  if (response.hasHeader(name)) response.setHeader(name, value)
  if (reply && reply.getHeader(name) !== value) reply.header(name, value)
}

/** Names, in lower case, of the headers that code gives to writeHead itself; of a list, values may be among them. */
function namesIn(written: Record<string, unknown>): string[] {
  const names = Array.isArray(written) ? written : Object.keys(written)
  return names.map((name) => String(name).toLowerCase())
}

/** @param inbound what the caller has sent: a proxy forwards that, it has not chosen it. */
function propagate(outgoing: OutgoingHeaders, name: string, id: string | undefined, inbound: unknown): void {
  if (id === undefined) return
  const set = outgoing.get(name)
  if (set === undefined || (set === inbound && set !== id)) outgoing.set(name, id)
}

/** Gives each request its ids, and the answer too. */
export default fp(requestId, { name: NAME, fastify: '^5.10.0' })
