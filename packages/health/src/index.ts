import underPressure from '@fastify/under-pressure'
import observation, {
  parseOptions,
  resolveService,
  type ServiceOptions,
  serviceSchema
} from '@fastify-observability/observation'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'

export interface HealthOptions {
  service?: ServiceOptions
  /** What readiness depends on, by name. A bare function is a critical check. @default {} */
  checks?: Record<string, Check | CheckOptions>
  /** Limits past which application routes are answered with 503. Probes and `/metrics` never are. @default none */
  pressure?: PressureOptions
}

/** Healthy when it returns; unhealthy when it throws, rejects, or has not settled in time. */
export type Check = (signal: AbortSignal) => unknown

export interface CheckOptions {
  check: Check
  /** `false`: a failure makes readiness `degraded` with 200 instead of `not_ready` with 503. @default true */
  critical?: boolean
  /** After this the check has failed, and its signal is aborted. @default 1000 */
  timeoutMs?: number
}

export interface PressureOptions {
  /** Mean delay of the event loop. */
  maxEventLoopDelayMs?: number
  /** Utilisation of the event loop over the last second, 0 to 1. */
  maxEventLoopUtilization?: number
  maxHeapUsedBytes?: number
  maxRssBytes?: number
}

type CheckState = 'ok' | 'failed'

const NAME = '@fastify-observability/health'
const RETRY_AFTER_S = 10
const check = v.custom<Check>((value) => typeof value === 'function', 'a function or { check, critical, timeoutMs }')
const positive = v.optional(v.pipe(v.number('a positive number'), v.gtValue(0, 'a positive number')))
const schema = v.strictObject({
  service: serviceSchema,
  checks: v.optional(
    v.record(
      v.string(),
      v.union(
        [check, v.strictObject({ check, critical: v.optional(v.boolean()), timeoutMs: positive })],
        'a function or { check, critical, timeoutMs }'
      )
    )
  ),
  pressure: v.optional(
    v.strictObject({
      maxEventLoopDelayMs: positive,
      maxEventLoopUtilization: positive,
      maxHeapUsedBytes: positive,
      maxRssBytes: positive
    })
  )
})

const PROBE: RouteShorthandOptions = {
  schema: { hide: true },
  config: { observability: { log: 'failures', trace: false, shed: false } },
  onRequest(_request, reply, done) {
    reply.header('cache-control', 'no-store')
    done()
  }
}

async function run({ check, timeoutMs = 1000 }: CheckOptions): Promise<CheckState> {
  const deadline = new AbortController()
  const { promise: expired, resolve } = Promise.withResolvers<CheckState>()
  const timer = setTimeout(() => {
    deadline.abort()
    resolve('failed')
  }, timeoutMs)
  const work = async (): Promise<CheckState> => {
    await check(deadline.signal)
    return 'ok'
  }
  try {
    return await Promise.race([work(), expired])
  } catch {
    return 'failed'
  } finally {
    clearTimeout(timer)
  }
}

// under-pressure goes on with the request when its handler resolves and answers with what it rejects with.
async function shedUnlessExempt(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (request.is404 || request.routeOptions.config.observability?.shed === false) return
  reply.header('retry-after', RETRY_AFTER_S)
  throw Object.assign(new Error('The service is under pressure'), { statusCode: 503, code: 'FST_UNDER_PRESSURE' })
}

async function health(app: FastifyInstance, options: HealthOptions): Promise<void> {
  const { service, checks = {}, pressure } = parseOptions<HealthOptions>(NAME, schema, options)
  const { version } = resolveService(service)
  const named = Object.entries(checks).map(([name, given]): [string, CheckOptions] => [
    name,
    typeof given === 'function' ? { check: given } : given
  ])

  await app.register(observation)
  if (pressure) {
    await app.register(underPressure, {
      maxEventLoopDelay: pressure.maxEventLoopDelayMs,
      maxEventLoopUtilization: pressure.maxEventLoopUtilization,
      eventLoopUtilizationMode: 'interval',
      maxHeapUsedBytes: pressure.maxHeapUsedBytes,
      maxRssBytes: pressure.maxRssBytes,
      pressureHandler: shedUnlessExempt
    })
  }

  let started = false
  app.addHook('onReady', async () => {
    started = true
  })
  app.get('/health', PROBE, async () => ({ status: 'healthy', version }))

  app.get('/health/ready', PROBE, async (_request, reply) => {
    const states = await Promise.all(named.map(([, options]) => run(options)))
    const failed = named.filter((_check, index) => states[index] === 'failed')
    const critical = failed.some(([, { critical = true }]) => critical)
    reply.code(critical ? 503 : 200)
    return {
      status: critical ? 'not_ready' : failed.length > 0 ? 'degraded' : 'ready',
      checks: Object.fromEntries(named.map(([name], index) => [name, states[index]]))
    }
  })

  app.get('/health/startup', PROBE, async (_request, reply) => {
    reply.code(started ? 200 : 503)
    return { status: started ? 'started' : 'starting' }
  })
}

export default fp(health, { name: NAME, fastify: '^5.12.0' })
