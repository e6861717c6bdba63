import { getHeapStatistics } from 'node:v8'
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { CheckReport } from './check.ts'

/** What happens past a limit: application routes are answered with 503, readiness is, or both. */
export type PressureMode = 'shed' | 'readiness' | 'both'

export interface PressureOptions {
  /** @default 'shed' */
  mode?: PressureMode
  /** Mean delay of the event loop. */
  maxEventLoopDelayMs?: number
  /** Utilisation of the event loop over the last second, 0 to 1. */
  maxEventLoopUtilization?: number
  maxHeapUsedBytes?: number
  maxRssBytes?: number
}

export interface Pressure {
  /** The state of the last second, as a check that is critical where it turns readiness. */
  readonly report: CheckReport
}

const SAMPLE_MS = 1_000
const RETRY_AFTER_S = 10

/** Limits that a service reaches only when it is about to fail. */
function presetLimits(): Omit<PressureOptions, 'mode'> {
  const container = process.constrainedMemory()
  return {
    maxEventLoopDelayMs: 500,
    maxEventLoopUtilization: 0.98,
    maxHeapUsedBytes: Math.round(getHeapStatistics().heap_size_limit * 0.9),
    // Without a limit on the container it is 0 or astronomical.
    ...(container > 0 && container < Number.MAX_SAFE_INTEGER && { maxRssBytes: Math.round(container * 0.95) })
  }
}

// under-pressure goes on with the request when its handler resolves and answers with what it rejects with.
async function shed(reply: FastifyReply): Promise<never> {
  reply.header('retry-after', RETRY_AFTER_S)
  throw Object.assign(new Error('The service is under pressure'), { statusCode: 503, code: 'FST_UNDER_PRESSURE' })
}

/** Watches event loop and memory from now on. */
export async function watchPressure(app: FastifyInstance, given: PressureMode | PressureOptions): Promise<Pressure> {
  // Loading keeps the event loop busy, or so busy that it is not measured at all: the first samples say nothing of the load.
  let countsFrom = Number.POSITIVE_INFINITY
  app.addHook('onReady', async () => {
    countsFrom = performance.now() + 2 * SAMPLE_MS
  })

  async function shedUnlessExempt(request: FastifyRequest, reply: FastifyReply, type: string): Promise<void> {
    if (request.is404 || request.routeOptions.config.observability?.shed === false) return
    if (type.startsWith('eventLoop') && performance.now() < countsFrom) return
    await shed(reply)
  }

  const { mode = 'shed', ...limits } = typeof given === 'string' ? { mode: given, ...presetLimits() } : given
  await app.register(underPressure, {
    sampleInterval: SAMPLE_MS,
    maxEventLoopDelay: limits.maxEventLoopDelayMs,
    maxEventLoopUtilization: limits.maxEventLoopUtilization,
    eventLoopUtilizationMode: 'interval',
    maxHeapUsedBytes: limits.maxHeapUsedBytes,
    maxRssBytes: limits.maxRssBytes,
    pressureHandler: mode === 'readiness' ? () => undefined : shedUnlessExempt
  })

  let isHigh = false
  // under-pressure has no event; it samples this often.
  const timer = setInterval(compare, SAMPLE_MS).unref()
  app.addHook('onClose', async () => clearInterval(timer))

  function compare(): void {
    if (performance.now() < countsFrom || isHigh === app.isUnderPressure()) return
    isHigh = !isHigh
    if (isHigh) app.log.warn(measurements(), 'under pressure')
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
