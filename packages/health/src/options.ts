import {
  isRecord,
  parseOptions,
  type ServiceOptions,
  serviceSchema,
  waitSchema
} from '@fastify-observability/observation/internal'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import * as v from 'valibot'
import type { Check, CheckOptions } from './check.ts'

/** Options of the health part. */
export interface HealthOptions {
  /** Whose `version` the liveness probe answers. @default what the environment and package.json say */
  service?: ServiceOptions
  /** What readiness depends on, by name. A bare function is a critical check. @default {} */
  checks?: Record<string, Check | CheckOptions>
  /** Paths of the probes. @default { liveness: '/health', readiness: '/health/ready', startup: '/health/startup' } */
  paths?: {
    /** Whether the process answers. @default '/health' */
    liveness?: string
    /** Whether requests may be sent here. @default '/health/ready' */
    readiness?: string
    /** Whether the service has started. @default '/health/startup' */
    startup?: string
  }
  /**
   * Whether readiness explains its status: durations, what the checks returned and the messages of their errors, without
   * secrets. A function that throws, is async or returns no boolean counts as `false`.
   * @default 'never'
   */
  details?: 'always' | 'never' | ((request: FastifyRequest) => boolean)
  /**
   * Limits on event loop and memory, and what happens past them. A mode alone has limits that suit most services.
   * Probes and `/metrics` are always answered. @default none
   */
  pressure?: PressureMode | PressureOptions
  /** Ends the process in order on SIGTERM, SIGINT and uncaught errors. `true` stands for the defaults. @default false */
  shutdown?: boolean | ShutdownOptions
  /** Another app that has the probes too, always with details: one that only operators can reach. @default none */
  management?: FastifyInstance
}

/** What happens past a limit: application routes are answered with 503, readiness is, or both. */
export type PressureMode = 'shed' | 'readiness' | 'both'

/** The limits above which requests are shed. */
export interface PressureOptions {
  /** @default 'shed' */
  mode?: PressureMode
  /** Mean delay of the event loop. */
  maxEventLoopDelayMs?: number
  /** Utilisation of the event loop over the last second, 0 to 1. */
  maxEventLoopUtilization?: number
  /** Bytes of V8's heap in use. */
  maxHeapUsedBytes?: number
  /** Bytes of memory that the process has, all of it. */
  maxRssBytes?: number
}

/** How a signal ends the service. */
export interface ShutdownOptions {
  /**
   * For how long the service goes on answering after a signal, with readiness 503, in milliseconds: load balancers need
   * that to send their requests elsewhere. @default 5000, or 0 in a terminal and where readiness was never asked for
   */
  delayMs?: number
  /** How long requests may take once the app closes, in milliseconds. Those that take longer are aborted. @default 10000 */
  timeoutMs?: number
  /** Signals that shut the service down. None with `[]`: then close the app yourself. @default ['SIGTERM', 'SIGINT'] */
  signals?: ShutdownSignal[]
}

/** A signal that begins a shutdown. */
export type ShutdownSignal = (typeof SIGNALS)[number]

export const NAME = '@fastify-observability/health'
export const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const

const CHECK_RULE = 'a function or { check, critical, timeoutMs, cacheMs, failAfter, recoverAfter }'
const check = v.custom<Check>((value) => typeof value === 'function', CHECK_RULE)
const positive = v.optional(v.pipe(v.number('a positive number'), v.gtValue(0, 'a positive number')))
const DURATION_RULE = 'a number of milliseconds, 0 or more'
const duration = v.optional(v.pipe(v.number(DURATION_RULE), v.minValue(0, DURATION_RULE)))
const COUNT_RULE = 'a whole number, 1 or more'
const count = v.optional(v.pipe(v.number(COUNT_RULE), v.integer(COUNT_RULE), v.minValue(1, COUNT_RULE)))
const checkSchema = v.union(
  [
    check,
    v.strictObject({
      check,
      critical: v.optional(v.boolean()),
      timeoutMs: waitSchema(1),
      cacheMs: duration,
      failAfter: count,
      recoverAfter: count
    })
  ],
  CHECK_RULE
)
const checksSchema = v.record(v.string(), checkSchema)
const PATH_RULE = 'a path that starts with "/"'
const path = v.optional(v.pipe(v.string(PATH_RULE), v.startsWith('/', PATH_RULE)))
const MODE_RULE = "'shed', 'readiness' or 'both'"
const modeSchema = v.picklist(['shed', 'readiness', 'both'], MODE_RULE)
const predicate = v.custom<(request: FastifyRequest) => boolean>((value) => typeof value === 'function')
const schema = v.strictObject({
  service: serviceSchema,
  checks: v.optional(checksSchema),
  paths: v.optional(v.strictObject({ liveness: path, readiness: path, startup: path })),
  details: v.optional(v.union([v.picklist(['always', 'never']), predicate], "'always', 'never' or a function")),
  pressure: v.optional(
    v.union(
      [
        modeSchema,
        v.strictObject({
          mode: v.optional(modeSchema),
          maxEventLoopDelayMs: positive,
          maxEventLoopUtilization: positive,
          maxHeapUsedBytes: positive,
          maxRssBytes: positive
        })
      ],
      `${MODE_RULE}, or limits`
    )
  ),
  shutdown: v.optional(
    v.union(
      [
        v.boolean(),
        v.strictObject({
          delayMs: waitSchema(0),
          timeoutMs: waitSchema(0),
          signals: v.optional(v.array(v.picklist(SIGNALS, `one of ${SIGNALS.join(', ')}`)))
        })
      ],
      'a boolean or { delayMs, timeoutMs, signals }'
    )
  ),
  management: v.optional(v.custom<FastifyInstance>((value) => isRecord(value) && 'route' in value, 'a Fastify app'))
})

/** @throws TypeError naming option, value and what is allowed. */
export function resolveOptions(options: HealthOptions): HealthOptions {
  return parseOptions<HealthOptions>(NAME, schema, options)
}

/** @throws TypeError naming option, value and what is allowed. */
export function validateCheck(name: string, given: Check | CheckOptions): void {
  parseOptions(NAME, v.strictObject({ checks: checksSchema }), { checks: { [name]: given } })
}
