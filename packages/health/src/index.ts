import observation from '@fastify-observability/observation'
import {
  answerOf,
  documented,
  registryOf,
  resolveService,
  withDocs,
  YES_OR_NO
} from '@fastify-observability/observation/internal'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type CachedCheck, type Check, type CheckOptions, type CheckReport, cacheCheck } from './check.ts'
import { type HealthOptions, NAME, resolveOptions, validateCheck } from './options.ts'
import { watchPressure } from './pressure.ts'
import { addProbes, type ProbeSources } from './probes.ts'
import { installShutdown } from './shutdown/shutdown.ts'

export type { Check, CheckOptions, CheckReport, CheckState } from './check.ts'
export * from './checks.ts'
export type { CheckDetails } from './details.ts'
export type { HealthOptions, PressureMode, PressureOptions, ShutdownOptions, ShutdownSignal } from './options.ts'

declare module 'fastify' {
  interface FastifyInstance {
    health: Health
  }
}

/** `app.health`. */
export interface Health {
  /**
   * Adds a check, for later probes.
   * @throws TypeError for a name that exists and for invalid options.
   */
  add(name: string, check: Check | CheckOptions): void
  /** `false` makes readiness answer 503 whatever the checks find, until it is set to `true`. */
  setReady(ready: boolean): void
  /** The last state of everything. Runs no check. */
  readonly state: HealthState
  /** Runs the checks whose results are too old, and gives the state after it. Never rejects. */
  check(): Promise<HealthState>
}

/** What the probes answer at the moment. */
export interface HealthState {
  /** What readiness answers: `degraded`, with 200, when a check that is not critical has failed; `not_ready` is 503. */
  readonly status: 'ready' | 'degraded' | 'not_ready'
  /** The app is ready: all of its plugins have loaded. */
  readonly started: boolean
  /** The service is shutting down. */
  readonly draining: boolean
  /** The last result of each check, by its name; of the pressure too, where it is watched. */
  readonly checks: Readonly<Record<string, CheckReport>>
}

async function health(app: FastifyInstance, options: HealthOptions): Promise<void> {
  const parsed = resolveOptions(options)
  const { checks = {}, paths = {}, details = 'never', pressure: limits, shutdown = false, management } = parsed
  const { version } = resolveService(parsed.service)

  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  const { publish, report } = registry
  const cached = new Map<string, CachedCheck>()
  const pressure = limits === undefined ? undefined : await watchPressure(app, limits)
  let started = false
  let draining = false
  let ready = true
  let isAskedFor = false

  function add(name: string, given: Check | CheckOptions): void {
    if (cached.has(name) || (pressure && name === 'pressure')) {
      throw documented(new TypeError(`${NAME}: a check named "${name}" already exists`), 'wrong-options')
    }
    const { critical = true, ...options } = typeof given === 'function' ? { check: given } : given
    const changed = ({ state, durationMs }: CheckReport, error: unknown): void => {
      const fields = { check: name, critical, duration_ms: durationMs }
      if (state === 'ok') app.log.info(fields, 'health check recovered')
      else
        app.log[critical ? 'error' : 'warn'](
          withDocs('health-and-pressure', { ...fields, err: error }),
          'health check failed'
        )
    }
    cached.set(name, cacheCheck({ critical, ...options }, { redactor: () => registry.redactor, changed }))
  }

  function reports(): [string, CheckReport][] {
    const own = Array.from(cached, ([name, { report }]): [string, CheckReport] => [name, report])
    return pressure ? [...own, ['pressure', pressure.report]] : own
  }

  function statusOf(checks: [string, CheckReport][], isUp: boolean): HealthState['status'] {
    if (!isUp || draining || !ready) return 'not_ready'
    if (checks.some(([, { state, critical }]) => critical && state !== 'ok')) return 'not_ready'
    return checks.some(([, { state }]) => state === 'failed') ? 'degraded' : 'ready'
  }

  function state(): HealthState {
    const checks = reports()
    return { status: statusOf(checks, started), started, draining, checks: Object.fromEntries(checks) }
  }

  async function refresh(): Promise<void> {
    // Dependencies of a service that shuts down may be gone already.
    if (!draining) await Promise.all(Array.from(cached.values(), (check) => check.refresh()))
  }

  for (const [name, given] of Object.entries(checks)) add(name, given)
  registry.claims.set(
    'health',
    `${NAME}: app.health is there already; rename that decorator, or set the option health: false`
  )
  app.decorate('health', {
    add(name, given) {
      validateCheck(name, given)
      add(name, given)
    },
    setReady(value) {
      ready = value
    },
    get state() {
      return state()
    },
    async check() {
      await refresh()
      return state()
    }
  })
  app.addHook('onReady', async () => {
    started = true
  })

  publish({
    name: 'health_check_up',
    help: 'Whether the last run of the health check succeeded.',
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
    installShutdown(app, shutdown === true ? {} : shutdown, {
      drain() {
        draining = true
      },
      // Without a load balancer nobody has to learn first that the service shuts down.
      isWatched: () => isAskedFor && !process.stdout.isTTY
    })
  }

  function mayShowDetails(request: FastifyRequest): boolean {
    if (typeof details === 'string') return details === 'always'
    return answerOf(
      'details',
      () => details(request),
      false,
      (error) => report(NAME, error),
      YES_OR_NO
    )
  }

  /** @param isUp whether requests reach the application, as far as the server that answers can know. */
  function sources(isUp: () => boolean): ProbeSources {
    return {
      version,
      isStarted: () => started,
      asked() {
        isAskedFor = true
      },
      async check() {
        await refresh()
        return reports()
      },
      statusOf: (checks) => statusOf(checks, isUp())
    }
  }

  addProbes(
    app,
    paths,
    sources(() => started),
    mayShowDetails
  )
  // The management app may answer before the application listens, and after it has closed.
  if (management) {
    const { server } = app
    const isListening = (): boolean => started && server.listening
    addProbes(management, paths, sources(isListening), () => true)
  }
}

/** Serves the probes, sheds load and ends the service in order. */
export default fp(health, { name: NAME, fastify: '^5.10.0' })
