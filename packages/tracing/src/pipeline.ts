import { isDeepStrictEqual } from 'node:util'
import {
  atMostEvery,
  type Hosts,
  hostMatcher,
  type Redactor,
  type Series,
  type Service
} from '@fastify-observability/observation'
import {
  context,
  ProxyTracerProvider,
  propagation,
  type TextMapPropagator,
  type Tracer,
  trace
} from '@opentelemetry/api'
import { CompositePropagator, getNumberFromEnv, W3CBaggagePropagator } from '@opentelemetry/core'
import { containerDetector } from '@opentelemetry/resource-detector-container'
import {
  detectResources,
  envDetector,
  hostDetector,
  type Resource,
  resourceFromAttributes,
  serviceInstanceIdDetector
} from '@opentelemetry/resources'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import type { FastifyBaseLogger } from 'fastify'
import { exportSpans } from './exporter.ts'
import { disable, enable, isPreloaded } from './instrumentations.ts'
import { sendingOnlyWhereAllowed, strictTraceContext } from './propagator.ts'
import { createSampler } from './sampler.ts'
import { scrubSpans } from './scrubber.ts'
import { tracer } from './span.ts'
import { printTraces } from './tree.ts'

/** What a plugin holds of the process-wide trace pipeline. */
export interface Pipeline {
  tracer: Tracer
  /** What it counts, to be published by every holder. */
  series: readonly Series[]
  /** Loads what the first export needs, if there is one. Never rejects. */
  open(): Promise<void>
  /** Flushes and stops the pipeline when its last holder releases it. Bounded in time, never rejects. */
  release(): Promise<void>
}

/** What all apps of a process share. */
interface Settings {
  service: Service
  endpoint: string | undefined
  console: boolean
  sampleRatio: number | undefined
  propagateTo: Hosts | undefined
  traceContext: boolean
  baggage: boolean
}

interface PipelineOptions extends Settings {
  /** How long the last `release` may take to deliver what is queued. @default 5000 */
  shutdownTimeoutMs: number | undefined
  /** The rules of the app's logs, which may still be set. */
  redactor: () => Redactor
  log: FastifyBaseLogger
}

interface Running {
  settings: Settings
  holders: number
  series: readonly Series[]
  open: () => Promise<void>
  stop: () => Promise<void>
}

// Long enough for a statement, a URL and a stack.
const MAX_ATTRIBUTE_LENGTH = 4_096
const MINUTE_MS = 60_000

// One pipeline a process: OpenTelemetry's provider, context manager and propagator are global.
let running: Running | undefined

export function startPipeline({ log, redactor, shutdownTimeoutMs, ...settings }: PipelineOptions): Pipeline {
  if (running) {
    running.holders++
    if (!isDeepStrictEqual(running.settings, settings)) {
      log.warn('tracing: another app of this process has started it, with its own settings')
    }
  } else if (hasProvider()) {
    log.info('tracing: using the tracer provider that is already registered')
    // Whoever registered it has instrumented what it should see, unless the preload was asked to.
    if (isPreloaded()) enable(trace.getTracerProvider())
    return { tracer: tracer(), series: [], open: async () => {}, release: async () => {} }
  } else {
    running = { holders: 1, settings, ...start(settings, log, redactor, shutdownTimeoutMs) }
  }
  return {
    tracer: tracer(),
    series: running.series,
    open: running.open,
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

function start(
  settings: Settings,
  log: FastifyBaseLogger,
  redactor: () => Redactor,
  shutdownTimeoutMs = 5_000
): Pick<Running, 'series' | 'open' | 'stop'> {
  const { service, endpoint, console, sampleRatio, propagateTo } = settings
  const spanExport = endpoint ? exportSpans({ endpoint, shutdownTimeoutMs, log }) : undefined
  const processors = [
    ...(spanExport ? [spanExport.processor] : []),
    ...(console ? [printTraces((text) => process.stderr.write(text))] : [])
  ]
  const provider = new NodeTracerProvider({
    resource: resourceOf(service),
    sampler: createSampler({ sampleRatio, ...(propagateTo && { mayCarry: hostMatcher(propagateTo) }) }),
    spanProcessors: processors.length > 0 ? [scrubSpans(redactor, processors)] : [],
    // The standard variables have the last word.
    ...(hasLengthLimit() ? {} : { generalLimits: { attributeValueLengthLimit: MAX_ATTRIBUTE_LENGTH } })
  })
  provider.register({ propagator: propagatorOf(settings, log) })
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
  return { series: spanExport?.series ?? [], open: async () => spanExport?.open(), stop }
}

function resourceOf({ name, version, environment }: Service): Resource {
  return resourceFromAttributes({
    'process.pid': process.pid,
    'process.runtime.name': 'nodejs',
    'process.runtime.version': process.versions.node
  })
    .merge(detectResources({ detectors: [hostDetector, serviceInstanceIdDetector, containerDetector, envDetector] }))
    .merge(
      resourceFromAttributes({
        'service.name': name,
        'service.version': version,
        'deployment.environment.name': environment
      })
    )
}

function hasLengthLimit(): boolean {
  return ['OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT'].some(
    (name) => getNumberFromEnv(name) !== undefined
  )
}

function propagatorOf({ traceContext, baggage }: Settings, log: FastifyBaseLogger): TextMapPropagator<unknown> {
  const mayWarn = atMostEvery(MINUTE_MS)
  const propagators = [
    ...(traceContext ? [strictTraceContext()] : []),
    ...(baggage ? [new W3CBaggagePropagator()] : [])
  ]
  return sendingOnlyWhereAllowed(new CompositePropagator({ propagators }), (err) => {
    if (mayWarn()) log.warn({ err }, 'tracing: context of a call could not be read or sent')
  })
}
