import { createHash, timingSafeEqual } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import * as v from 'valibot'

/** A second listener for `/metrics` and the details of health, apart from what the public reaches. */
export interface ManagementOptions {
  /** 0: any free port, to be found in `app.management.listeningOrigin`. */
  port: number
  /** @default '127.0.0.1' */
  host?: string
  /** What callers must send as `authorization: Bearer …`. @default no token is required */
  token?: string
}

const PORT_RULE = 'a port from 0 to 65535'
const TEXT_RULE = 'a non-empty string'
const text = v.optional(v.pipe(v.string(TEXT_RULE), v.minLength(1, TEXT_RULE)))

export const managementSchema = v.optional(
  v.strictObject({
    port: v.pipe(v.number(PORT_RULE), v.integer(PORT_RULE), v.minValue(0, PORT_RULE), v.maxValue(65535, PORT_RULE)),
    host: text,
    token: text
  })
)

/** Makes the app of the second listener, which listens as soon as `app` is ready and closes with it. */
export function createManagement(
  app: FastifyInstance,
  { port, host = '127.0.0.1', token }: ManagementOptions
): FastifyInstance {
  const management = Fastify({ logger: false, forceCloseConnections: true })
  if (token !== undefined) {
    const isAllowed = bearer(token)
    management.addHook('onRequest', async ({ headers }, reply) => {
      if (isAllowed(headers.authorization)) return
      return reply.code(401).header('www-authenticate', 'Bearer').send({ statusCode: 401, error: 'Unauthorized' })
    })
  }
  app.addHook('onReady', async () => {
    try {
      await management.listen({ port, host })
    } catch (error) {
      throw new Error(`fastify-observability: the management listener cannot listen on ${host}:${port}`, {
        cause: error
      })
    }
  })
  app.addHook('onClose', () => management.close())
  return management
}

// Digests have one length, which the comparison in constant time asks for.
function bearer(token: string): (authorization: string | undefined) => boolean {
  const wanted = digest(token)
  return (authorization = '') => {
    const [, given = ''] = /^bearer +(.*)$/i.exec(authorization) ?? []
    return timingSafeEqual(digest(given), wanted)
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
