import { createRedactor, runInBackground } from '@fastify-observability/observation/internal'

/**
 * Healthy when it returns; unhealthy when it throws, rejects, or has not settled in time, which aborts its signal. Of an
 * object that it returns, the numbers, words and booleans become details.
 */
export type Check = (signal: AbortSignal) => unknown

export interface CheckOptions {
  check: Check
  /** `false`: a failure makes readiness `degraded` with 200 instead of `not_ready` with 503. @default true */
  critical?: boolean
  /** After this the check has failed, in milliseconds, and its signal is aborted. @default 1000 */
  timeoutMs?: number
  /** For how long a result answers for the next probes too, in milliseconds. @default 1000 */
  cacheMs?: number
  /** How many runs in a row have to fail before an `ok` becomes `failed`. @default 1 */
  failAfter?: number
  /** How many runs in a row have to succeed before a `failed` becomes `ok`. @default 1 */
  recoverAfter?: number
}

/** `unknown`: it has not run yet. */
export type CheckState = 'ok' | 'failed' | 'unknown'

/** The last word of a check. */
export interface CheckReport {
  readonly state: CheckState
  readonly critical: boolean
  /** How long its last run took, in milliseconds. */
  readonly durationMs?: number
  /** Why its last run failed, without secrets. */
  readonly error?: string
  /** What its last run returned. */
  readonly details?: CheckDetails
}

export type CheckDetails = Record<string, string | number | boolean>

/** A check that is run when its last result is too old. */
export interface WatchedCheck {
  readonly report: CheckReport
  /** Resolves when there is a result of `cacheMs` at most. Never rejects. */
  refresh(): Promise<void>
}

/** Called after a run whose result is not the one before. */
export type Changed = (report: CheckReport, error: unknown) => void

const MAX_DETAILS = 20
const MAX_TEXT = 200
const redactor = createRedactor()

export function watchCheck(options: CheckOptions, changed: Changed): WatchedCheck {
  const { check, critical = true, timeoutMs = 1000, cacheMs = 1000, failAfter = 1, recoverAfter = 1 } = options
  let report: CheckReport = { state: 'unknown', critical }
  let running: Promise<void> | undefined
  let freshUntil = Number.NEGATIVE_INFINITY
  // Runs in a row that contradict the state.
  let contrary = 0

  function settle(result: 'ok' | 'failed', rest: Omit<CheckReport, 'state' | 'critical'>, error?: unknown): void {
    const { state } = report
    contrary = result === state ? 0 : contrary + 1
    // The first run decides: until it has, nothing speaks for the service.
    const needed = state === 'unknown' ? 1 : result === 'failed' ? failAfter : recoverAfter
    const turned = contrary >= needed
    if (turned) contrary = 0
    report = { state: turned ? result : state, critical, ...rest }
    if (turned && (result === 'failed' || state === 'failed')) changed(report, error)
  }

  async function run(): Promise<void> {
    const startedAt = performance.now()
    const elapsed = (): number => Math.round((performance.now() - startedAt) * 1000) / 1000
    try {
      const details = await withinTime(check, timeoutMs)
      settle('ok', { durationMs: elapsed(), ...(details && { details }) })
    } catch (error) {
      settle('failed', { durationMs: elapsed(), error: describe(error) }, error)
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

async function withinTime(check: Check, timeoutMs: number): Promise<CheckDetails | undefined> {
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
  // Its calls are nobody's requests.
  const work = async (): Promise<CheckDetails | undefined> => detailsOf(await runInBackground(check, deadline.signal))
  try {
    return await Promise.race([work(), expired])
  } finally {
    clearTimeout(timer)
    clearImmediate(turn)
  }
}

/** A copy that can be sent: whatever a check returns, such as a driver's result, may be circular, huge or throw. */
function detailsOf(returned: unknown): CheckDetails | undefined {
  if (typeof returned !== 'object' || returned === null || Array.isArray(returned)) return undefined
  const value: unknown = 'toJSON' in returned && typeof returned.toJSON === 'function' ? returned.toJSON() : returned
  if (typeof value !== 'object' || value === null || !isPlain(value)) return undefined
  const entries = Object.entries(value)
    .filter(([, detail]) => ['string', 'number', 'boolean'].includes(typeof detail))
    .slice(0, MAX_DETAILS)
    .map(([name, detail]) => [name, typeof detail === 'string' ? clean(detail) : detail])
  return entries.length > 0 ? Object.fromEntries(entries) : undefined
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The message of what was thrown, which may be anything and may throw when looked at. */
function describe(error: unknown): string {
  try {
    if (!(error instanceof Error)) return clean(String(error))
    // A host with several addresses fails with an AggregateError, which has a code and no message.
    return clean(error.message || ('code' in error ? String(error.code) : error.name))
  } catch {
    return '[unreadable]'
  }
}

function clean(text: string): string {
  return redactor.text(text).slice(0, MAX_TEXT)
}
