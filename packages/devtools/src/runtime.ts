import { monitorEventLoopDelay, PerformanceObserver, performance } from 'node:perf_hooks'

/** What the process did in the seconds before a moment. */
interface RuntimeSample {
  readonly timeMs: number
  /** 99th percentile of how late timers were, in milliseconds. */
  readonly delayMs: number
  /** Share of the time that the event loop was busy, from 0 to 1. */
  readonly utilization: number
  readonly heapBytes: number
  readonly rssBytes: number
  readonly gcMs: number
  readonly handles: number
}

export interface Runtime {
  /** Oldest first. */
  readonly samples: readonly RuntimeSample[]
  stop(): void
}

const EVERY_MS = 2_000
const KEPT_MS = 300_000
const RESOLUTION_MS = 20

/** Samples the runtime from now on, and keeps five minutes. */
export function watchRuntime(): Runtime {
  const samples: RuntimeSample[] = []
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  let before = performance.eventLoopUtilization()
  let gcMs = 0
  const collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) gcMs += duration
  })
  collections.observe({ entryTypes: ['gc'] })

  function sample(): void {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    const { heapUsed, rss } = process.memoryUsage()
    // Without a single measurement Node gives numbers that are none.
    const delayMs = delay.count === 0 ? 0 : Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS)
    samples.push({
      timeMs: Date.now(),
      delayMs,
      utilization,
      heapBytes: heapUsed,
      rssBytes: rss,
      gcMs,
      handles: process.getActiveResourcesInfo().length
    })
    if (samples.length > KEPT_MS / EVERY_MS) samples.shift()
    before = now
    gcMs = 0
    delay.reset()
  }

  sample()
  const timer = setInterval(sample, EVERY_MS).unref()
  return {
    samples,
    stop() {
      clearInterval(timer)
      delay.disable()
      collections.disconnect()
    }
  }
}
