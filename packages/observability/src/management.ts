import { createHash, timingSafeEqual } from 'node:crypto'
import { documented, TOKEN } from '@fastify-observability/observation/internal'
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

/** Makes the app of the second listener, which listens when `app` does and closes with it. */
export function createManagement(
  app: FastifyInstance,
  { port, host = '127.0.0.1', token }: ManagementOptions
): FastifyInstance {
  const management = Fastify({ logger: false, forceCloseConnections: true })
  if (token !== undefined) {
    management.decorate(TOKEN, true)
    const isAllowed = bearer(token)
    management.addHook('onRequest', async ({ headers }, reply) => {
      if (isAllowed(headers.authorization)) return
      return reply.code(401).header('www-authenticate', 'Bearer').send({ statusCode: 401, error: 'Unauthorized' })
    })
  }
  const isListenCalled = noteListen(app)
  async function open(): Promise<void> {
    try {
      await management.listen({ port, host })
    } catch (error) {
      const words = `fastify-observability: the management listener cannot listen on ${host}:${port}`
      throw documented(new Error(words, { cause: error }), 'registered-late-or-twice')
    }
  }
  app.addHook('onReady', async () => {
    if (isListenCalled()) await open()
  })
  // After ready() and a later listen(), which does not wait for this hook; Fastify logs what it throws.
  app.addHook('onListen', async () => {
    if (!management.server.listening) await open()
  })
  app.addHook('onClose', () => management.close())
  return management
}

/** Whether callers of the second listener need a token. */
export function hasToken(management: FastifyInstance): boolean {
  return management.hasDecorator(TOKEN)
}

/**
 * Notes calls of `listen()`, which Fastify tells no hook of in time: scripts and tests that only want `ready()` or `inject()`
 * must not open a port, and `listen()` has to fail when a port is taken.
 */
function noteListen(app: FastifyInstance): () => boolean {
  const { listen } = app
  let isCalled = false
  Object.assign(app, {
    listen(this: FastifyInstance, ...args: unknown[]): unknown {
      isCalled = true
      return Reflect.apply(listen, this, args)
    }
  })
  return () => isCalled
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
