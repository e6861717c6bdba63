import {
  parseEnv,
  parseOptions,
  resolveService,
  type ServiceOptions,
  serviceSchema,
  waitSchema
} from '@fastify-observability/observation/internal'
import * as v from 'valibot'

/** Options of the profiling part. */
export interface ProfilingOptions {
  /** Who the telemetry is about. @default what the environment and package.json say */
  service?: ServiceOptions
  /**
   * Pyroscope's address, such as `http://pyroscope:4040`, with user and password where it asks for them. Without one nothing
   * is sampled. @default PYROSCOPE_SERVER_ADDRESS
   */
  serverAddress?: string
  /**
   * Headers of each push, beside those of the variables: `PYROSCOPE_AUTH_TOKEN`, `PYROSCOPE_BASIC_AUTH_USER` with
   * `PYROSCOPE_BASIC_AUTH_PASSWORD`, and `PYROSCOPE_TENANT_ID`. @default {}
   */
  headers?: Record<string, string>
  /** Milliseconds from one sample to the next. @default 10 */
  samplingIntervalMs?: number
  /** Milliseconds from one push to the next. @default 15000 */
  pushIntervalMs?: number
  /** Profiles what is on the heap too. @default false */
  heap?: boolean
  /** Writes route and span on each sample, which is what most of the cost a request comes from. @default true */
  labels?: boolean
}

export const NAME = '@fastify-observability/profiling'

const ADDRESS_RULE = 'an http or https URL'
const SAMPLING_RULE = 'a number of milliseconds from 1 to 1000'
const addressSchema = v.optional(v.pipe(v.string(ADDRESS_RULE), v.check(isAddress, ADDRESS_RULE)))
const text = v.optional(v.string())
const schema = v.strictObject({
  service: serviceSchema,
  serverAddress: addressSchema,
  headers: v.optional(v.record(v.string(), v.string('a text'))),
  samplingIntervalMs: v.optional(
    v.pipe(v.number(SAMPLING_RULE), v.minValue(1, SAMPLING_RULE), v.maxValue(1000, SAMPLING_RULE))
  ),
  pushIntervalMs: waitSchema(1),
  heap: v.optional(v.boolean()),
  labels: v.optional(v.boolean())
})
// Pyroscope's own clients read these.
const envSchema = v.object({
  PYROSCOPE_SERVER_ADDRESS: addressSchema,
  PYROSCOPE_AUTH_TOKEN: text,
  PYROSCOPE_BASIC_AUTH_USER: text,
  PYROSCOPE_BASIC_AUTH_PASSWORD: text,
  PYROSCOPE_TENANT_ID: text
})

function isAddress(value: string): boolean {
  const url = URL.parse(value)
  try {
    return (
      url !== null && /^https?:$/.test(url.protocol) && decodeURIComponent(url.username + url.password) !== undefined
    )
  } catch {
    return false
  }
}

export type Settings = ReturnType<typeof resolveOptions>

/** Options, completed from the environment and by the defaults. */
export function resolveOptions(options: ProfilingOptions, warn: (message: string) => void) {
  const parsed = parseOptions<ProfilingOptions>(NAME, schema, options)
  const env = parseEnv(envSchema, warn)
  const {
    service,
    serverAddress = env.PYROSCOPE_SERVER_ADDRESS,
    headers = {},
    samplingIntervalMs = 10,
    pushIntervalMs = 15_000,
    heap = false,
    labels = true
  } = parsed
  const url = serverAddress === undefined ? undefined : new URL(serverAddress)
  const fromUrl = url?.username
    ? { authorization: basic(decodeURIComponent(url.username), decodeURIComponent(url.password)) }
    : {}
  // No request may be made to a URL that has them.
  if (url) Object.assign(url, { username: '', password: '' })
  return {
    service: resolveService(service),
    serverAddress: url?.href,
    headers: { ...headersOf(env), ...fromUrl, ...headers },
    samplingIntervalMs,
    pushIntervalMs,
    heap,
    labels
  }
}

function headersOf({
  PYROSCOPE_AUTH_TOKEN: token,
  PYROSCOPE_BASIC_AUTH_USER: user,
  PYROSCOPE_BASIC_AUTH_PASSWORD: password = '',
  PYROSCOPE_TENANT_ID: tenant
}: v.InferOutput<typeof envSchema>): Record<string, string> {
  const authorization = token ? `Bearer ${token}` : user && basic(user, password)
  return { ...(authorization && { authorization }), ...(tenant && { 'x-scope-orgid': tenant }) }
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
}
