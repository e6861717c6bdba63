import type { FastifyInstance } from 'fastify'

// Lines that the canonical line replaces. Fastify's others (stream and serializer errors) stay.
const REPLACED = ['incomingRequest', 'requestCompleted', 'defaultErrorLog', 'routeNotFound'] as const

/**
 * Silences Fastify's own request lines for the app.
 * Only the factory takes a `logController`, so a plugin has to reach the one that Fastify made.
 * @see https://fastify.dev/docs/latest/Reference/Server/#logcontroller
 */
export function muteOwnRequestLines(app: FastifyInstance): void {
  const controller = findController(app)
  for (const line of REPLACED) {
    if (line in controller) Object.defineProperty(controller, line, { value: () => undefined, configurable: true })
  }
}

function findController(app: object): object {
  for (let target: object | null = app; target !== null; target = Object.getPrototypeOf(target)) {
    const symbol = Object.getOwnPropertySymbols(target).find(
      ({ description }) => description === 'fastify.logController'
    )
    const controller = symbol && Reflect.get(target, symbol)
    if (typeof controller === 'object' && controller !== null) return controller
  }
  throw new Error(
    '@fastify-observability/logging: this version of Fastify has no log controller, 5.12 or later is needed'
  )
}
