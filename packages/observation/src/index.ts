import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { documented, withDocs } from './docs.ts'
import { observeRequests } from './lifecycle.ts'
import { createObservers } from './observers.ts'

export { type BullmqContext, type BullmqSpan, type BullmqTelemetry, bullmqTelemetry } from './bullmq.ts'
export type { AddedFields, FieldItem, FieldValue, KeptValue } from './fields.ts'
export { type JobFunction, type Observe, observe } from './jobs.ts'
export type { Observation, Outcome, Refusal } from './observation.ts'
export type { JobObserver, Observer, WorkObserver } from './observers.ts'
export type { ObservationRegistry } from './registry.ts'
export type { LogLevel, RouteMetrics, RouteObservability } from './route.ts'
export { currentObservation } from './scope.ts'
export type { Sample, Series } from './series.ts'
export type { Job, JobOptions, JobOrigin, JobOutcome, Work } from './work.ts'

const NAME = '@fastify-observability/observation'
// What `engines` says; nothing else stops an older Node, where the suite would fail later and in silence.
const OLDEST_NODE = [22, 19] as const

const CHILD =
  'registered in a child instance: requests that no route of it answers are not observed, 404s among them; register ' +
  'on the root instance, or wrap your plugin with fastify-plugin'

function checkNode(version: string): void {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor, oldestMinor] = OLDEST_NODE
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return
  const words = `Node ${OLDEST_NODE.join('.')} or later is required, this is ${version}`
  throw documented(new Error(`${NAME}: ${words}`), 'registered-late-or-twice')
}

async function observation(app: FastifyInstance): Promise<void> {
  checkNode(process.versions.node)
  // Every plugin of the suite registers this one; the first does, the others find it.
  if (app.hasDecorator('observation')) return
  if (!Object.hasOwn(app, 'server')) app.log.warn(withDocs('registered-late-or-twice'), `${NAME}: ${CHILD}`)
  observeRequests(
    app,
    createObservers(() => app.log)
  )
}

/** Observes each request once, for all parts. */
export default fp(observation, { name: NAME, fastify: '^5.10.0' })
