import { isDeepStrictEqual } from 'node:util'
import type { Series, Service } from '@fastify-observability/observation'
import { context, ProxyTracerProvider, propagation, trace } from '@opentelemetry/api'
import {
  detectResources,
  envDetector,
  hostDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector
} from '@opentelemetry/resources'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import type { FastifyBaseLogger } from 'fastify'
import { exportSpans } from './exporter.ts'
import { disable, enable, isPreloaded } from './instrumentations.ts'
import { strictTraceContext } from './propagator.ts'

/** What a plugin holds of the process-wide trace pipeline. */
export interface Pipeline {
  /** What it counts, to be published by every holder. */
  series: readonly Series[]
  /** Flushes and stops the pipeline when its last holder releases it. Bounded in time, never rejects. */
  release(): Promise<void>
}

interface PipelineOptions {
  service: Service
  endpoint: string | undefined
  /** How long the last `release` may take to deliver what is queued. @default 5000 */
  shutdownTimeoutMs?: number
  log: FastifyBaseLogger
}

interface Running extends Pick<PipelineOptions, 'endpoint' | 'service'> {
  holders: number
  series: readonly Series[]
  stop: () => Promise<void>
}

// One pipeline a process: OpenTelemetry's provider, context manager and propagator are global.
let running: Running | undefined

export function startPipeline(options: PipelineOptions): Pipeline {
  if (running) {
    running.holders++
    if (running.endpoint !== options.endpoint || !isDeepStrictEqual(running.service, options.service)) {
      options.log.warn('tracing: another app of this process has started it, with its endpoint and service')
    }
  } else if (hasProvider()) {
    options.log.info('tracing: using the tracer provider that is already registered')
    // Whoever registered it has instrumented what it should see, unless the preload was asked to.
    if (isPreloaded()) enable(trace.getTracerProvider())
    return { series: [], release: async () => {} }
  } else {
    const { endpoint, service } = options
    running = { holders: 1, endpoint, service, ...start(options) }
  }
  return {
    series: running.series,
    async release() {
      if (!running || --running.holders > 0) return
      const { stop } = running
      running = undefined
      await stop()
    }
  }
}

function hasProvider(): boolean {
  const provider = trace.getTracerProvider()
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer('probe') !== undefined
}

function start({ service, endpoint, shutdownTimeoutMs = 5_000, log }: PipelineOptions): {
  series: readonly Series[]
  stop: () => Promise<void>
} {
  const spanExport = endpoint ? exportSpans({ endpoint, shutdownTimeoutMs, log }) : undefined
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      'process.pid': process.pid,
      'process.runtime.name': 'nodejs',
      'process.runtime.version': process.versions.node
    })
      .merge(detectResources({ detectors: [hostDetector, serviceInstanceIdDetector, envDetector] }))
      .merge(
        resourceFromAttributes({
          'service.name': service.name,
          'service.version': service.version,
          'deployment.environment.name': service.environment
        })
      ),
    spanProcessors: spanExport ? [spanExport.processor] : []
  })
  provider.register({ propagator: strictTraceContext() })
  enable(provider)
  if (spanExport) log.info({ endpoint: spanExport.endpoint }, `tracing: exporting spans over ${spanExport.protocol}`)
  else log.info('tracing: no OTLP endpoint configured, spans are not exported')

  async function stop(): Promise<void> {
    // At once: an app that registers while the last spans are sent starts a pipeline of its own.
    disable()
    trace.disable()
    context.disable()
    propagation.disable()
    await provider.shutdown()
  }
  return { series: spanExport?.series ?? [], stop }
}
