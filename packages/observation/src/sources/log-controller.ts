import type { FastifyInstance, FastifyReply, FastifyRequest, LogController } from 'fastify'
import { withDocs } from '../docs.ts'
import { isRecord } from '../values/record.ts'

interface LogListeners {
  /** Whether the request belongs to this app and not to a sibling. */
  isOurs(request: FastifyRequest): boolean
  /** Before any hook, of a route or of the 404 handler. */
  arrived(request: FastifyRequest, reply: FastifyReply): void
  /** The default error handler answers this error: the application has none, or its own has thrown it. */
  errorAnswered(error: unknown, request: FastifyRequest): void
  /** A stream failed after the headers were sent; no hook is run for it. */
  streamFailed(error: Error, request: FastifyRequest): void
}

const METHODS = ['incomingRequest', 'requestCompleted', 'defaultErrorLog', 'streamError', 'routeNotFound'] as const

/**
 * Observes the calls of Fastify's log controller, which come earlier than its hooks and for more, and lets its
 * lines through until `mute` is called. Only the factory takes a controller, so a plugin has to reach the one in use.
 * @see https://fastify.dev/docs/latest/Reference/Server/#logcontroller
 */
export function observeLogController(
  app: FastifyInstance,
  { isOurs, arrived, errorAnswered, streamFailed }: LogListeners
): { mute(): void; isSilenced(request: FastifyRequest | undefined): boolean } {
  const controller = findController(app)
  let muted = false
  const mute = (): void => {
    muted = true
  }
  if (!controller) return { mute, isSilenced: () => false }

  // Methods that a subclass, or the object itself, has instead of Fastify's.
  const fastifys = basePrototype(controller)
  const own = new Set<string>(METHODS.filter((method) => controller[method] !== Reflect.get(fastifys, method)))
  const { incomingRequest, requestCompleted, defaultErrorLog, streamError, routeNotFound } = controller
  const isMuted = (request: FastifyRequest, method: (typeof METHODS)[number]): boolean =>
    muted && isOurs(request) && !own.has(method)
  const replaced: Partial<LogController> = {
    incomingRequest(request, reply, metadata) {
      if (isOurs(request)) arrived(request, reply)
      if (!isMuted(request, 'incomingRequest')) incomingRequest.call(controller, request, reply, metadata)
    },
    requestCompleted(error, request, reply, metadata) {
      if (!isMuted(request, 'requestCompleted')) requestCompleted.call(controller, error, request, reply, metadata)
      // An onResponse hook has failed: the request itself has ended, and its line has no place for that.
      else if (error && !controller.isLogDisabled(request))
        reply.log.error(withDocs('functions-that-fail', { err: error }), 'an onResponse hook failed')
    },
    defaultErrorLog(error, request, reply, metadata) {
      if (isOurs(request)) errorAnswered(error, request)
      if (!isMuted(request, 'defaultErrorLog')) defaultErrorLog.call(controller, error, request, reply, metadata)
    },
    streamError(error, request, reply, metadata) {
      if (isOurs(request)) streamFailed(error, request)
      if (!isMuted(request, 'streamError')) streamError.call(controller, error, request, reply, metadata)
    },
    routeNotFound(request, reply, metadata) {
      if (!isMuted(request, 'routeNotFound')) routeNotFound.call(controller, request, reply, metadata)
    }
  }
  Object.assign(controller, replaced)
  const { disableRequestLogging } = controller
  return {
    mute,
    isSilenced: (request) => (request ? Boolean(controller.isLogDisabled(request)) : disableRequestLogging === true)
  }
}

function findController(app: object): LogController | undefined {
  for (let target: object | null = app; target !== null; target = Object.getPrototypeOf(target)) {
    const symbol = Object.getOwnPropertySymbols(target).find(
      ({ description }) => description === 'fastify.logController'
    )
    const controller: unknown = symbol && Reflect.get(target, symbol)
    if (isLogController(controller)) return controller
  }
  return undefined
}

// Importing the class would fail before a Fastify that has none could say which version is asked for.
function isLogController(value: unknown): value is LogController {
  return isRecord(value) && METHODS.every((method) => typeof value[method] === 'function')
}

/** What Fastify's own class has, whichever class of the application's extends it. */
function basePrototype(controller: object): object {
  let base = controller
  for (let next = Object.getPrototypeOf(base); next !== null && next !== Object.prototype; ) {
    base = next
    next = Object.getPrototypeOf(next)
  }
  return base
}
