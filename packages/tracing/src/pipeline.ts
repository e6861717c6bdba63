import { createRequire, syncBuiltinESMExports } from 'node:module'
import { atMostEvery, type Service } from '@fastify-observability/observation'
import { context, ProxyTracerProvider, propagation, trace } from '@opentelemetry/api'
import { ExportResultCode, W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'
import {
  detectResources,
  envDetector,
  hostDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector
} from '@opentelemetry/resources'
import { BatchSpanProcessor, NodeTracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace-node'
import type { FastifyBaseLogger } from 'fastify'

/** What a plugin holds of the process-wide trace pipeline. */
export interface Pipeline {
  /** Flushes and stops the pipeline when its last holder releases it. Bounded in time, never rejects. */
  release(): Promise<void>
}

interface PipelineOptions {
  service: Service
  endpoint: string | undefined
  log: FastifyBaseLogger
}

const SHUTDOWN_MS = 5_000
const MINUTE_MS = 60_000

// One pipeline a process: OpenTelemetry's provider, context manager and propagator are global.
let running: { holders: number; stop: () => Promise<void> } | undefined

export function startPipeline(options: PipelineOptions): Pipeline {
  if (running) {
    running.holders++
  } else if (hasProvider()) {
    options.log.info('tracing: using the tracer provider that is already registered')
    return { release: async () => {} }
  } else {
    running = { holders: 1, stop: start(options) }
  }
  return {
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

function start({ service, endpoint, log }: PipelineOptions): () => Promise<void> {
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
    spanProcessors: endpoint
      ? [new BatchSpanProcessor(warnOnFailure(new OTLPTraceExporter({ url: endpoint }), endpoint, log))]
      : []
  })
  provider.register({ propagator: new W3CTraceContextPropagator() })
  carryTraceOut(provider)
  if (endpoint) log.info({ endpoint }, 'tracing: exporting spans over OTLP/gRPC')
  else log.info('tracing: no OTLP endpoint configured, spans are not exported')

  return async () => {
    await within(SHUTDOWN_MS, provider.shutdown()).catch((error) => {
      log.warn({ err: error }, 'tracing: the last spans could not be exported')
    })
    carryNothingOut()
    trace.disable()
    context.disable()
    propagation.disable()
  }
}

// One set a process: what an instrumentation hooks into the module loader stays there, and only the first set patches.
let outgoing: [HttpInstrumentation, UndiciInstrumentation] | undefined

function carryTraceOut(provider: NodeTracerProvider): void {
  // Server spans are ours; these two see only the calls that go out.
  outgoing ??= [new HttpInstrumentation({ disableIncomingRequestInstrumentation: true }), new UndiciInstrumentation()]
  for (const instrumentation of outgoing) {
    instrumentation.setTracerProvider(provider)
    instrumentation.enable()
  }
  // http is patched when it is next required, and ES modules hold on to what they imported before.
  const require = createRequire(import.meta.url)
  require('node:http')
  require('node:https')
  syncBuiltinESMExports()
}

function carryNothingOut(): void {
  for (const instrumentation of outgoing ?? []) instrumentation.disable()
  syncBuiltinESMExports()
}

function warnOnFailure(exporter: SpanExporter, endpoint: string, log: FastifyBaseLogger): SpanExporter {
  const mayWarn = atMostEvery(MINUTE_MS)
  let lost = 0
  return {
    export(spans, done) {
      exporter.export(spans, (result) => {
        if (result.code !== ExportResultCode.SUCCESS) {
          lost += spans.length
          if (mayWarn()) {
            const message = result.error?.message
            log.warn({ endpoint, spans_lost: lost, reason: message }, 'tracing: spans could not be exported')
          }
        }
        done(result)
      })
    },
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown()
  }
}

function within(ms: number, work: Promise<void>): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`not done after ${ms} ms`)), ms)
  return Promise.race([work, promise]).finally(() => clearTimeout(timer))
}
