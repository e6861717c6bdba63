import type { FastifyInstance, RouteOptions } from 'fastify'
import { documented } from './docs.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    observability?: RouteObservability
  }
  interface FastifySchema {
    /** Keeps a route out of the OpenAPI document, as @fastify/swagger reads it. */
    hide?: boolean
  }
}

/** What a route can say about its own observation: `config: { observability: { log: false } }`. */
export interface RouteObservability {
  /**
   * `false`: no canonical line. `'failures'`: only for answers of 500 and above and for those that took over a second.
   * A level: lines of answers below 500 have this one instead of one by status. @default true
   */
  log?: boolean | 'failures' | LogLevel
  /**
   * `false`: no span, and none for what the request calls. `{ ratio }`: the share of the traces beginning here that are
   * recorded, from 0 to 1; a caller's decision is followed. @default true
   */
  trace?:
    | boolean
    | {
        /** From 0 to 1. */
        ratio: number
      }
  /** The suite's own routes, probes and `/metrics`, have `true`: for authentication hooks that exempt them. @default false */
  operational?: boolean
  /** `false`: answered even under pressure. @default true */
  shed?: boolean
  /** `false`: not in the request metrics. @default {} */
  metrics?: RouteMetrics | false
}

/** What a route can say about its metrics. */
export interface RouteMetrics {
  /** `false`: not in the duration, for streams and long polls; they are counted by their time to first byte. @default true */
  duration?: boolean
  /** Upper bounds in seconds, ascending, of its duration and its time to first byte. @default the metrics part's */
  durationBuckets?: readonly number[]
}

/** The levels of a route's canonical line. */
export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** Has an @fastify/under-pressure of the application's spare a route with `shed: false`, as health's own does. */
export function spareFromPressure(route: RouteOptions): void {
  const { config } = route
  if (config?.observability?.shed !== false || 'pressureHandler' in config) return
  route.config = Object.assign({ pressureHandler: () => undefined }, config)
}

/**
 * Makes the check of each new route that the suite's own and the application's have paths of their own. Fastify would
 * refuse the second one without naming the first.
 */
export function routeGuard(): (app: FastifyInstance, route: RouteOptions) => void {
  const own = new Set<string>()
  return (app, { method: methods, url, config, constraints }) => {
    if (constraints) return
    const isOwn = config?.observability?.operational === true
    for (const method of [methods].flat()) {
      const name = `${method} ${url}`
      if (isOwn ? app.hasRoute({ method, url }) : own.has(name)) {
        const words =
          `fastify-observability: ${name} is a route of the application and of the suite; move the suite's with the ` +
          'option metrics.path, health.paths or management'
        throw documented(new Error(words), 'registered-late-or-twice')
      }
      if (isOwn) own.add(name)
    }
  }
}
