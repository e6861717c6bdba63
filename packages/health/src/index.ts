import observation from '@fastify-observability/observation'
import {
  parseOptions,
  registryOf,
  resolveService,
  type ServiceOptions,
  serviceSchema,
  waitSchema
} from '@fastify-observability/observation/internal'
import type { FastifyInstance, FastifyRequest, RouteShorthandOptions } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'
import {
  type Check,
  type CheckOptions,
  type CheckReport,
  type CheckState,
  type WatchedCheck,
  watchCheck
} from './check.ts'
import { type PressureMode, type PressureOptions, watchPressure } from './pressure.ts'
import { installShutdown, type ShutdownOptions, SIGNALS } from './shutdown.ts'

export type { Check, CheckDetails, CheckOptions, CheckReport, CheckState } from './check.ts'
export {
  type DiskOptions,
  disk,
  http,
  type PostgresClient,
  type PostgresPool,
  postgres,
  type RedisClient,
  redis
} from './checks.ts'
export type { PressureMode, PressureOptions } from './pressure.ts'
export type { ShutdownOptions, ShutdownSignal } from './shutdown.ts'

declare module 'fastify' {
  interface FastifyInstance {
    health: Health
  }
}

/** `app.health`. */
export interface Health {
  /**
   * Adds a check, for probes to come.
   * @throws TypeError for a name that is taken and for options that do not hold.
   */
  add(name: string, check: Check | CheckOptions): void
  /** `false` makes readiness answer 503 whatever the checks say, until it is set to `true`. */
  setReady(ready: boolean): void
  /** The last state of everything. Runs no check. */
  readonly state: HealthState
}

export interface HealthState {
  readonly status: 'ready' | 'degraded' | 'not_ready'
  readonly started: boolean
  /** The service is shutting down. */
  readonly draining: boolean
  readonly checks: Readonly<Record<string, CheckReport>>
}

export interface HealthOptions {
  service?: ServiceOptions
  /** What readiness depends on, by name. A bare function is a critical check. @default {} */
  checks?: Record<string, Check | CheckOptions>
  /** Where the probes are. @default { liveness: '/health', readiness: '/health/ready', startup: '/health/startup' } */
  paths?: { liveness?: string; readiness?: string; startup?: string }
  /**
   * Whether readiness says why: durations, what the checks returned and the text of their errors, without secrets.
   * @default 'never'
   */
  details?: 'always' | 'never' | ((request: FastifyRequest) => boolean)
  /**
   * Limits on event loop and memory, and what happens past them. A bare word takes limits that suit most services.
   * Probes and `/metrics` are always answered. @default none
   */
  pressure?: PressureMode | PressureOptions
  /** Ends the process in order on SIGTERM, SIGINT and uncaught errors. `true` takes the defaults. @default false */
  shutdown?: boolean | ShutdownOptions
  /** Another app that has the probes too, always with details: one that only operators reach. @default none */
  management?: FastifyInstance
}

const NAME = '@fastify-observability/health'
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
const PATH_RULE = 'a path that starts with "/"'
const path = v.optional(v.pipe(v.string(PATH_RULE), v.startsWith('/', PATH_RULE)))
const MODE_RULE = "'shed', 'readiness' or 'both'"
const modeSchema = v.picklist(['shed', 'readiness', 'both'], MODE_RULE)
const predicate = v.custom<(request: FastifyRequest) => boolean>((value) => typeof value === 'function')
const schema = v.strictObject({
  service: serviceSchema,
  checks: v.optional(v.record(v.string(), checkSchema)),
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
  management: v.optional(
    v.custom<FastifyInstance>(
      (value) => typeof value === 'object' && value !== null && 'route' in value,
      'a Fastify app'
    )
  )
})

const PROBE: RouteShorthandOptions = {
  schema: { hide: true },
  exposeHeadRoute: true,
  config: { observability: { log: 'failures', trace: false, shed: false } },
  onRequest(_request, reply, done) {
    reply.header('cache-control', 'no-store')
    done()
  }
}

async function health(app: FastifyInstance, options: HealthOptions): Promise<void> {
  const parsed = parseOptions<HealthOptions>(NAME, schema, options)
  const { checks = {}, paths = {}, details = 'never', pressure: limits, shutdown = false, management } = parsed
  const { liveness = '/health', readiness = '/health/ready', startup = '/health/startup' } = paths
  const { version } = resolveService(parsed.service)

  await app.register(observation)
  const { publish, report } = registryOf(app)
  const watched = new Map<string, WatchedCheck>()
  const pressure = limits === undefined ? undefined : await watchPressure(app, limits)
  let started = false
  let draining = false
  let wanted = true

  function add(name: string, given: Check | CheckOptions): void {
    if (watched.has(name) || (pressure && name === 'pressure')) {
      throw new TypeError(`${NAME}: there is a check "${name}" already`)
    }
    const { critical = true, ...options } = typeof given === 'function' ? { check: given } : given
    const changed = ({ state, durationMs }: CheckReport, error: unknown): void => {
      const fields = { check: name, critical, duration_ms: durationMs }
      if (state === 'ok') app.log.info(fields, 'health check recovered')
      else app.log[critical ? 'error' : 'warn']({ ...fields, err: error }, 'health check failed')
    }
    watched.set(name, watchCheck({ critical, ...options }, changed))
  }

  function reports(): [string, CheckReport][] {
    const own = Array.from(watched, ([name, { report }]): [string, CheckReport] => [name, report])
    return pressure ? [...own, ['pressure', pressure.report]] : own
  }

  function statusOf(checks: [string, CheckReport][], isUp: boolean): HealthState['status'] {
    if (!isUp || draining || !wanted) return 'not_ready'
    if (checks.some(([, { state, critical }]) => critical && state !== 'ok')) return 'not_ready'
    return checks.some(([, { state }]) => state === 'failed') ? 'degraded' : 'ready'
  }

  for (const [name, given] of Object.entries(checks)) add(name, given)
  app.decorate('health', {
    add(name, given) {
      parseOptions(NAME, v.strictObject({ checks: v.record(v.string(), checkSchema) }), { checks: { [name]: given } })
      add(name, given)
    },
    setReady(ready) {
      wanted = ready
    },
    get state() {
      const checks = reports()
      return { status: statusOf(checks, started), started, draining, checks: Object.fromEntries(checks) }
    }
  })
  app.addHook('onReady', async () => {
    started = true
  })

  publish({
    name: 'health_check_up',
    help: 'Whether the health check last passed.',
    type: 'gauge',
    labelNames: ['check'],
    collect: () =>
      reports().flatMap(([name, { state }]) =>
        state === 'unknown' ? [] : [[{ check: name }, state === 'ok' ? 1 : 0] as const]
      )
  })
  publish({
    name: 'health_check_duration_seconds',
    help: 'How long the last run of the health check took.',
    type: 'gauge',
    labelNames: ['check'],
    collect: () =>
      reports().flatMap(([name, { durationMs }]) =>
        durationMs === undefined ? [] : [[{ check: name }, durationMs / 1000] as const]
      )
  })
  if (shutdown) {
    installShutdown(app, shutdown === true ? {} : shutdown, () => {
      draining = true
    })
  }

  function mayTell(request: FastifyRequest): boolean {
    if (typeof details === 'string') return details === 'always'
    try {
      return details(request) === true
    } catch (error) {
      report(NAME, error)
      return false
    }
  }

  /** @param isUp whether requests reach the application, as far as those who ask there can know. */
  function serve(server: FastifyInstance, tells: (request: FastifyRequest) => boolean, isUp: () => boolean): void {
    server.get(liveness, PROBE, async () => ({ status: 'healthy', version }))

    server.get(readiness, PROBE, async (request, reply) => {
      // What a service that goes depends on is of no interest, and may be gone already.
      if (!draining) await Promise.all(Array.from(watched.values(), (check) => check.refresh()))
      const checks = reports()
      const status = statusOf(checks, isUp())
      reply.code(status === 'not_ready' ? 503 : 200)
      return {
        status,
        checks: Object.fromEntries(checks.map(([name, { state }]): [string, CheckState] => [name, state])),
        ...(tells(request) && {
          details: Object.fromEntries(checks.map(([name, report]) => [name, detailsOf(report)]))
        })
      }
    })

    server.get(startup, PROBE, async (_request, reply) => {
      reply.code(started ? 200 : 503)
      return { status: started ? 'started' : 'starting' }
    })
  }

  serve(app, mayTell, () => started)
  // It may answer before the application listens, and after.
  if (management) {
    const { server } = app
    serve(
      management,
      () => true,
      () => started && server.listening
    )
  }
}

function detailsOf({ critical, durationMs, error, details }: CheckReport): object {
  return { ...details, critical, duration_ms: durationMs, error }
}

export default fp(health, { name: NAME, fastify: '^5.12.0' })
