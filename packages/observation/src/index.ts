import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { observeRequests } from './lifecycle.ts'
import { createObservers } from './observers.ts'

export type { Observation, Outcome, Refusal } from './observation.ts'
export type { Observer } from './observers.ts'
export type { ObservationRegistry } from './registry.ts'
export type { LogLevel, RouteMetrics, RouteObservability } from './route.ts'
export { currentObservation } from './scope.ts'
export type { Sample, Series } from './series.ts'

async function observation(app: FastifyInstance): Promise<void> {
  // Every plugin of the suite registers this one; the first does, the others find it.
  if (app.hasDecorator('observation')) return
  observeRequests(
    app,
    createObservers(() => app.log)
  )
}

export default fp(observation, { name: '@fastify-observability/observation', fastify: '^5.12.0' })
