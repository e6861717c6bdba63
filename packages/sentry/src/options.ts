import type { Observation, Outcome } from '@fastify-observability/observation'
import {
  isRecord,
  parseEnv,
  parseOptions,
  resolveService,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation/internal'
// biome-ignore lint/suspicious/noTsIgnore: without the peer it is needed, with it there is nothing to expect.
/** @ts-ignore: the types of an optional peer, for those who have it. */
import type { NodeOptions, User } from '@sentry/node'
import type { FastifyRequest } from 'fastify'
import * as v from 'valibot'

/** Options of the sentry part. */
export interface SentryOptions {
  /** Who the telemetry is about. @default what the environment and package.json say */
  service?: ServiceOptions
  /** Where events go. Without one, and without `spotlight`, the plugin does nothing. @default SENTRY_DSN */
  dsn?: string
  /** @default SENTRY_ENVIRONMENT, then the service's environment */
  environment?: string
  /** @default SENTRY_RELEASE, then `name@version` of the service */
  release?: string
  /**
   * The share of requests that Sentry traces, 0 to 1, where nobody else does: with an OpenTelemetry tracer provider in the
   * process, Sentry makes no spans. @default 0.1
   */
  tracesSampleRate?: number
  /**
   * The most traces that begin in a process per second, on average; up to twice as many in a second that brings many more
   * requests than the last. The sample rate is lowered for it, and each trace carries the lowered rate, from which Sentry
   * extrapolates. Requests that their caller has sampled are traced beyond it, and an `sdk.tracesSampler` decides in its
   * place. @default 100
   */
  maxTracesPerSecond?: number
  /**
   * The share of processes, 0 to 1, whose traced requests are profiled; needs `@sentry/profiling-node`, and Sentry's own
   * tracing. @default 0.1
   */
  profilesSampleRate?: number
  /**
   * Decides what is captured, in the place of the rule: an exception, and a status of 500 or above or a response that it
   * broke. Called in the request's own scope, but not for requests that were aborted. If it throws, is async
   * or returns no boolean, the rule decides.
   */
  shouldCapture?: (outcome: Outcome, observation: Observation) => boolean
  /** Also an event for a status of 500 or above without an exception. @default false */
  captureWithoutException?: boolean
  /** Adds `sentry_event_id` to the JSON object that answers a request with an exception and 500 or above. @default false */
  eventIdInBody?: boolean
  /** Names of fields added to a request, `request.observation.add`, that become tags of its event too. @default [] */
  tagFields?: readonly string[]
  /** Who made the request, called in its scope when an event is sent. `Sentry.setUser` in a hook or handler does too. */
  user?: (request: FastifyRequest) => User | undefined
  /** Events a minute; one that ends the process is sent beyond it. @default 60 */
  maxEventsPerMinute?: number
  /** Events a minute of one class, code and place of error. @default 10 */
  maxEqualEventsPerMinute?: number
  /** Takes secrets out of events and spans by the rules of the logs, after your `beforeSend`. @default true */
  scrub?: boolean
  /**
   * Shows what is sent in Spotlight on this machine too, with or without a DSN: `true`, or the URL of its sidecar.
   * @default false
   * @see https://spotlightjs.com
   */
  spotlight?: boolean | string
  /**
   * Options of `Sentry.init`, in the place of the plugin's: `dataCollection`, `tracePropagationTargets`, `integrations`,
   * `beforeSend` and all others.
   * @see https://docs.sentry.io/platforms/javascript/guides/fastify/configuration/options/
   */
  sdk?: Omit<NodeOptions, 'dsn' | 'environment' | 'release' | 'tracesSampleRate' | 'spotlight'>
}

export const NAME = '@fastify-observability/sentry'

const DSN_RULE = 'a DSN like https://key@host/1'
const RATE_RULE = 'a number from 0 to 1'
const COUNT_RULE = 'a positive whole number'
const dsnSchema = v.optional(v.pipe(v.string(DSN_RULE), v.check(isDsn, DSN_RULE)))
const text = v.optional(v.string())
const rate = v.optional(v.pipe(v.number(RATE_RULE), v.minValue(0, RATE_RULE), v.maxValue(1, RATE_RULE)))
const count = v.optional(v.pipe(v.number(COUNT_RULE), v.integer(COUNT_RULE), v.minValue(1, COUNT_RULE)))
const schema = v.strictObject({
  service: serviceSchema,
  dsn: dsnSchema,
  environment: text,
  release: text,
  tracesSampleRate: rate,
  maxTracesPerSecond: count,
  profilesSampleRate: rate,
  shouldCapture: v.optional(v.custom<NonNullable<SentryOptions['shouldCapture']>>(isFunction, 'a function')),
  captureWithoutException: v.optional(v.boolean()),
  eventIdInBody: v.optional(v.boolean()),
  tagFields: v.optional(v.array(v.string(), 'an array of names')),
  user: v.optional(v.custom<NonNullable<SentryOptions['user']>>(isFunction, 'a function')),
  maxEventsPerMinute: count,
  maxEqualEventsPerMinute: count,
  scrub: v.optional(v.boolean()),
  spotlight: v.optional(v.union([v.boolean(), v.string()], 'a boolean or a URL')),
  sdk: v.optional(v.custom<NonNullable<SentryOptions['sdk']>>(isRecord, 'an object with options of Sentry.init'))
})
const envSchema = v.object({ SENTRY_DSN: dsnSchema, SENTRY_ENVIRONMENT: text, SENTRY_RELEASE: text })

/** @see https://develop.sentry.dev/sdk/overview/#parsing-the-dsn */
function isDsn(value: string): boolean {
  const url = URL.parse(value)
  return url !== null && /^https?:$/.test(url.protocol) && url.username !== '' && /\/\d+$/.test(url.pathname)
}

function isFunction(value: unknown): boolean {
  return typeof value === 'function'
}

export type Settings = ReturnType<typeof resolveOptions>

/** Options, completed from the environment and by the defaults. */
export function resolveOptions(options: SentryOptions, warn: (message: string) => void) {
  const parsed = parseOptions<SentryOptions>(NAME, schema, options)
  const env = parseEnv(envSchema, warn)
  const { name, version, environment } = resolveService(parsed.service)
  return {
    ...parsed,
    dsn: parsed.dsn ?? env.SENTRY_DSN,
    environment: parsed.environment ?? env.SENTRY_ENVIRONMENT ?? environment,
    release: parsed.release ?? env.SENTRY_RELEASE ?? (version && `${name}@${version}`),
    tracesSampleRate: parsed.tracesSampleRate ?? 0.1,
    maxTracesPerSecond: parsed.maxTracesPerSecond ?? 100,
    maxEventsPerMinute: parsed.maxEventsPerMinute ?? 60,
    maxEqualEventsPerMinute: parsed.maxEqualEventsPerMinute ?? 10,
    tagFields: parsed.tagFields ?? [],
    scrub: parsed.scrub ?? true,
    spotlight: parsed.spotlight ?? false,
    sdk: parsed.sdk ?? {}
  }
}
