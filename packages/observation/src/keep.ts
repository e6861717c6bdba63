import * as v from 'valibot'
import type { Outcome } from './observation.ts'
import { waitSchema } from './options/parse.ts'
import { isShed } from './outcome.ts'
import type { RouteObservability } from './route.ts'

/** Of which requests everything is kept: lines below the level, and traces that are not sampled. */
export interface KeepOptions {
  /**
   * Of those that failed: by a status of 500 or above, a response that broke, or an error given to `fail` below 400. A request
   * that load shedding has answered did not fail. @default true
   */
  errors?: boolean
  /** Of those that took longer than so many milliseconds. @default none */
  slowerThanMs?: number
}

/** Why everything of a request is kept. */
export type KeepReason = 'error' | 'slow'

/** Decides of a request that has ended, `undefined` where nothing is kept of it. */
export type KeepRule = (config: RouteObservability, outcome: Outcome, hasFailed: boolean) => KeepReason | undefined

const RULE = 'a boolean or { errors, slowerThanMs }'

export const keepSchema = v.optional(
  v.union([v.boolean(), v.strictObject({ errors: v.optional(v.boolean()), slowerThanMs: waitSchema(0) })], RULE)
)

/** What the option asks for, `undefined` for nothing. */
export function keepRule(option: KeepOptions | boolean | undefined): KeepRule | undefined {
  if (option === undefined || option === false) return undefined
  const { errors = true, slowerThanMs = Number.POSITIVE_INFINITY } = option === true ? {} : option
  if (!errors && slowerThanMs === Number.POSITIVE_INFINITY) return undefined
  return (config, outcome, hasFailed) => {
    if (errors && hasFailed && !isShed(outcome)) return 'error'
    return outcome.durationMs > slowerThanMs && hasDuration(config, outcome) ? 'slow' : undefined
  }
}

/** Streams, long polls and upgraded connections last as long as their client likes. */
function hasDuration({ metrics }: RouteObservability, { statusCode }: Outcome): boolean {
  return statusCode !== 101 && !(typeof metrics === 'object' && metrics.duration === false)
}
