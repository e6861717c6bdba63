import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import observation, { parseOptions } from '@fastify-observability/observation'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'

export interface RequestIdOptions {
  /** Header the request id is read from and echoed on. @default 'x-request-id' */
  header?: string
  /** Header the correlation id is read from and echoed on. @default 'x-correlation-id' */
  correlationHeader?: string
}

const NAME = '@fastify-observability/request-id'
const headerName = v.optional(v.pipe(v.string('a header name'), v.regex(/^[\w!#$%&'*+.^`|~-]+$/, 'a header name')))
const schema = v.strictObject({ header: headerName, correlationHeader: headerName })

// Callers' ids end up in logs and headers: accept only short, plain ones.
const SAFE_ID = /^[\w.:@+/=-]{1,128}$/

function safeId(headers: IncomingHttpHeaders, name: string): string | undefined {
  const id = headers[name]
  return typeof id === 'string' && SAFE_ID.test(id) ? id : undefined
}

async function requestId(app: FastifyInstance, options: RequestIdOptions): Promise<void> {
  const parsed = parseOptions<RequestIdOptions>(NAME, schema, options)
  const header = (parsed.header ?? 'x-request-id').toLowerCase()
  const correlationHeader = (parsed.correlationHeader ?? 'x-correlation-id').toLowerCase()

  await app.register(observation)
  app.setGenReqId(({ headers }) => safeId(headers, header) ?? randomUUID())
  app.observation.observe({
    name: NAME,
    start(observation) {
      const { request, reply } = observation
      observation.correlationId = safeId(request.headers, correlationHeader) ?? request.id
      reply.header(header, request.id).header(correlationHeader, observation.correlationId)
    }
  })
}

export default fp(requestId, { name: NAME, fastify: '^5.12.0' })
