import { getHeapStatistics } from 'node:v8'
import underPressure from '@fastify/under-pressure'
import {
  clearInterval,
  documented,
  registryOf,
  setInterval,
  withDocs
} from '@fastify-observability/observation/internal'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { CheckReport } from './check.ts'
import { NAME, type PressureMode, type PressureOptions } from './options.ts'

export interface Pressure {
  /** The state of the last second, as a check that is critical where it decides readiness. */
  readonly report: CheckReport
}

const SAMPLE_MS = 1_000
const RETRY_AFTER_S = 10
const TWICE = `${NAME}: @fastify/under-pressure is registered by the application too; leave out the option "pressure", or that plugin`

// What under-pressure decorates the app with.
const UNDER_PRESSURE = ['memoryUsage', 'isUnderPressure']

/** Limits that a service reaches only when it is about to fail. */
function defaultLimits(): Omit<PressureOptions, 'mode'> {
  const container = process.constrainedMemory()
  return {
    maxEventLoopDelayMs: 500,
    maxEventLoopUtilization: 0.98,
    maxHeapUsedBytes: Math.round(getHeapStatistics().heap_size_limit * 0.9),
    // Without a limit on the container, Node reports 0 or an astronomical number.
    ...(container > 0 && container < Number.MAX_SAFE_INTEGER && { maxRssBytes: Math.round(container * 0.95) })
  }
}

// When its handler resolves, under-pressure lets the request through; a rejection is the answer.
async function shed(reply: FastifyReply): Promise<never> {
  reply.header('retry-after', RETRY_AFTER_S)
  throw Object.assign(new Error('The service is under pressure'), { statusCode: 503, code: 'FST_UNDER_PRESSURE' })
}

/** Watches event loop and memory from now on. */
export async function watchPressure(app: FastifyInstance, given: PressureMode | PressureOptions): Promise<Pressure> {
  if (app.hasDecorator('isUnderPressure')) throw documented(new Error(TWICE), 'registered-late-or-twice')
  // Loading modules keeps the event loop busy, so the first samples do not show the load of requests.
  let countsFrom = Number.POSITIVE_INFINITY
  app.addHook('onReady', async () => {
    countsFrom = performance.now() + 2 * SAMPLE_MS
  })

  async function shedUnlessExempt(request: FastifyRequest, reply: FastifyReply, type: string): Promise<void> {
    if (request.is404 || request.routeOptions.config.observability?.shed === false) return
    if (type.startsWith('eventLoop') && performance.now() < countsFrom) return
    await shed(reply)
  }

  const { mode = 'shed', ...limits } = typeof given === 'string' ? { mode: given, ...defaultLimits() } : given
  await app.register(underPressure, {
    sampleInterval: SAMPLE_MS,
    maxEventLoopDelay: limits.maxEventLoopDelayMs,
    maxEventLoopUtilization: limits.maxEventLoopUtilization,
    eventLoopUtilizationMode: 'interval',
    maxHeapUsedBytes: limits.maxHeapUsedBytes,
    maxRssBytes: limits.maxRssBytes,
    pressureHandler: mode === 'readiness' ? () => undefined : shedUnlessExempt
  })

  for (const name of UNDER_PRESSURE) registryOf(app).claims.set(name, TWICE)
  let isHigh = false
  // under-pressure emits no event; it takes a sample this often.
  const timer = setInterval(compare, SAMPLE_MS).unref()
  app.addHook('onClose', async () => clearInterval(timer))

  function compare(): void {
    if (performance.now() < countsFrom || isHigh === app.isUnderPressure()) return
    isHigh = !isHigh
    if (isHigh) app.log.warn(withDocs('health-and-pressure', measurements()), 'under pressure')
    else app.log.info(measurements(), 'no longer under pressure')
  }

  function measurements(): Record<string, number> {
    const { eventLoopDelay, eventLoopUtilized, heapUsed, rssBytes } = app.memoryUsage()
    return {
      event_loop_delay_ms: Math.round(eventLoopDelay),
      event_loop_utilization: Math.round(eventLoopUtilized * 100) / 100,
      heap_used_bytes: heapUsed,
      rss_bytes: rssBytes
    }
  }

  return {
    get report(): CheckReport {
      compare()
      return { state: isHigh ? 'failed' : 'ok', critical: mode !== 'shed', details: measurements() }
    }
  }
}
