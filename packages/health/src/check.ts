import {
  clearImmediate,
  clearTimeout,
  elapsedMs,
  type Redactor,
  runInBackground,
  setImmediate,
  setTimeout
} from '@fastify-observability/observation/internal'
import { type CheckDetails, detailsOf, messageOf } from './details.ts'

/**
 * Healthy when it returns; unhealthy when it throws, rejects, or has not settled in time, which aborts its signal. Of an
 * object that it returns, the numbers, strings and booleans become details.
 */
export type Check = (signal: AbortSignal) => unknown

/** A check with settings of its own. */
export interface CheckOptions {
  /** What finds out whether the dependency is healthy. */
  check: Check
  /** `false`: a failure makes readiness `degraded` with 200 instead of `not_ready` with 503. @default true */
  critical?: boolean
  /** After this the check has failed, in milliseconds, and its signal is aborted. @default 1000 */
  timeoutMs?: number
  /** For how long a result answers later probes too, in milliseconds. @default 1000 */
  cacheMs?: number
  /** How many runs in a row have to fail before an `ok` becomes `failed`. @default 1 */
  failAfter?: number
  /** How many runs in a row have to succeed before a `failed` becomes `ok`. @default 1 */
  recoverAfter?: number
}

/** `unknown`: it has not run yet. */
export type CheckState = 'ok' | 'failed' | 'unknown'

/** The last result of a check. */
export interface CheckReport {
  /** After `failAfter` and `recoverAfter`. */
  readonly state: CheckState
  /** Whether a failure makes readiness answer 503. */
  readonly critical: boolean
  /** How long its last run took, in milliseconds. */
  readonly durationMs?: number
  /** Why its last run failed, without secrets. */
  readonly error?: string
  /** What its last run returned, without secrets. */
  readonly details?: CheckDetails
}

/** A check that runs when its last result is too old. */
export interface CachedCheck {
  readonly report: CheckReport
  /** Resolves when there is a result that is no older than `cacheMs`. Never rejects. */
  refresh(): Promise<void>
}

interface Surroundings {
  /** The app's rules at the moment. */
  redactor(): Redactor
  /** Called when the state has changed to or from `failed`. */
  changed(report: CheckReport, error: unknown): void
}

export function cacheCheck(options: CheckOptions, { redactor, changed }: Surroundings): CachedCheck {
  const { check, critical = true, timeoutMs = 1000, cacheMs = 1000, failAfter = 1, recoverAfter = 1 } = options
  let report: CheckReport = { state: 'unknown', critical }
  let running: Promise<void> | undefined
  let freshUntil = Number.NEGATIVE_INFINITY
  // Runs in a row that contradict the state.
  let contrary = 0

  function settle(result: 'ok' | 'failed', rest: Omit<CheckReport, 'state' | 'critical'>, error?: unknown): void {
    const { state } = report
    contrary = result === state ? 0 : contrary + 1
    // The first result always counts: until there is one, nothing shows that the dependency works.
    const needed = state === 'unknown' ? 1 : result === 'failed' ? failAfter : recoverAfter
    const turned = contrary >= needed
    if (turned) contrary = 0
    report = { state: turned ? result : state, critical, ...rest }
    if (turned && (result === 'failed' || state === 'failed')) changed(report, error)
  }

  async function run(): Promise<void> {
    const startedAt = performance.now()
    const elapsed = (): number => Math.round(elapsedMs(startedAt) * 1000) / 1000
    try {
      const details = detailsOf(await resultOf(check, timeoutMs), redactor())
      settle('ok', { durationMs: elapsed(), ...(details && { details }) })
    } catch (error) {
      settle('failed', { durationMs: elapsed(), error: messageOf(error, redactor()) }, error)
    }
    freshUntil = performance.now() + cacheMs
    running = undefined
  }

  return {
    get report() {
      return report
    },
    async refresh() {
      if (performance.now() < freshUntil) return
      running ??= run()
      await running
    }
  }
}

/** What the check returns, unless its time is up before. */
async function resultOf(check: Check, timeoutMs: number): Promise<unknown> {
  const deadline = new AbortController()
  const { promise: expired, reject } = Promise.withResolvers<never>()
  const expire = (): void => {
    const error = new Error(`no answer within ${timeoutMs} ms`)
    reject(error)
    deadline.abort(error)
  }
  // An answer that came while the event loop was blocked is read before the deadline counts.
  let turn: NodeJS.Immediate | undefined
  const timer = setTimeout(() => {
    turn = setImmediate(expire)
  }, timeoutMs)
  const work = async (): Promise<unknown> => runInBackground(check, deadline.signal)
  try {
    return await Promise.race([work(), expired])
  } finally {
    clearTimeout(timer)
    clearImmediate(turn)
  }
}
