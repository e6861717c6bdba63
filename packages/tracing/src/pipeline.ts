import { isDeepStrictEqual } from 'node:util'
import type { Series } from '@fastify-observability/observation'
import {
  atMostEvery,
  type DeliveryReport,
  flushTracerProvider,
  type Hosts,
  hostMatcher,
  type Redactor,
  type RequestObservation,
  type Service,
  type SpanReceiver,
  type Stop,
  withDocs
} from '@fastify-observability/observation/internal'
import { exportSpans, resourceOf } from '@fastify-observability/otlp'
import {
  type Context,
  context,
  type Link,
  ProxyTracerProvider,
  propagation,
  type Span,
  SpanKind,
  type TextMapPropagator,
  trace
} from '@opentelemetry/api'
import { CompositePropagator } from '@opentelemetry/core'
import { type Sampler, type SpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import type { FastifyBaseLogger } from 'fastify'
import { openChannels } from './channels/channels.ts'
import { disable, enable, isInstrumented, isPreloaded } from './instrumentation/instrumentations.ts'
import { guarded } from './processing/guarded.ts'
import { holdTraces } from './processing/held-traces.ts'
import { limitsFromEnv } from './processing/limits.ts'
import { scrubSpans } from './processing/scrubber.ts'
import { printTraces } from './processing/tree.ts'
import { sharedContextManager } from './propagation/context.ts'
import { sendingOnlyWhereAllowed, strictTraceContext } from './propagation/trace-context.ts'
import { strictBaggage } from './propagation/w3c-baggage.ts'
import { createSampler } from './sampler.ts'
import { attributesOf, nameOf } from './server/attributes.ts'
import { type SpanHome, type StartRequestSpan, startRequestSpans } from './server/request-span.ts'
import { skipUnsampled, tracer } from './span.ts'

/** What a plugin holds of the process-wide trace pipeline. */
export interface Pipeline {
  startSpan: StartRequestSpan
  /** Whether the context of an observation is the active one while its request is served. */
  hasSharedContext: boolean
  /** Whether spans are made of what database clients publish. */
  hasChannels: boolean
  /** Where spans go, for a reader. */
  destinations: readonly string[]
  /** Whether spans go anywhere but to where a developer looks at them. */
  isSending: boolean
  /** What became of the spans that are exported. */
  deliveries(): DeliveryReport[]
  /** What it counts, to be published by every holder. */
  series: readonly Series[]
  /** Hands the spans of all apps to the receiver too, but not those of a provider of the application's. @returns what ends that */
  watch(receiver: SpanReceiver): Stop
  /** Loads what the first export needs, if there is one. Never rejects. */
  open(): Promise<void>
  /** Resolves when what is queued has been delivered or dropped. */
  flush(): Promise<void>
  /** Flushes and stops the pipeline when its last holder releases it. Bounded in time, never rejects. */
  release(): Promise<void>
}

/** What all apps of a process share. */
interface Settings {
  service: Service
  endpoint: string | undefined
  /** Why spans go nowhere, where they do. */
  obstacle: string
  console: boolean
  sampleRatio: number | undefined
  sampler: Sampler | undefined
  spanProcessors: SpanProcessor[] | undefined
  /** Whether traces that are not sampled may be kept. */
  keep: boolean
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
  /** Counts and logs what the application's own sampler and processors throw. */
  report: (error: unknown) => void
}

interface Running {
  settings: Settings
  holders: number
  startSpan: StartRequestSpan
  hasSharedContext: boolean
  destinations: readonly string[]
  isSending: boolean
  deliveries: () => DeliveryReport[]
  series: readonly Series[]
  watch: (receiver: SpanReceiver) => Stop
  open: () => Promise<void>
  flush: () => Promise<void>
  stop: () => Promise<void>
}

const MINUTE_MS = 60_000

// One pipeline a process: OpenTelemetry's provider, context manager and propagator are global.
let running: Running | undefined

export function startPipeline({ log, report, redactor, shutdownTimeoutMs, ...settings }: PipelineOptions): Pipeline {
  if (running) {
    running.holders++
    if (!isDeepStrictEqual(running.settings, settings)) {
      log.warn(
        withDocs('registered-late-or-twice'),
        "tracing: already started by another app in this process; this app's settings are ignored"
      )
    }
  } else if (hasProvider()) {
    log.info('tracing: a tracer provider is already registered and stays')
    if (settings.keep) {
      log.warn(
        withDocs('nothing-is-exported'),
        'tracing: it decides what is recorded: the option "keep" keeps none of its traces'
      )
    }
    // Whoever registered it has instrumented what it should see, unless the preload was asked to.
    if (isPreloaded()) enable(trace.getTracerProvider())
    return {
      startSpan: startForeign,
      hasSharedContext: false,
      hasChannels: false,
      destinations: ["the application's tracer provider"],
      isSending: true,
      deliveries: () => [],
      series: [],
      watch: () => () => undefined,
      open: async () => {},
      flush: flushTracerProvider,
      release: async () => {}
    }
  } else {
    running = { holders: 1, settings, ...start(settings, log, report, redactor, shutdownTimeoutMs) }
  }
  return {
    startSpan: running.startSpan,
    hasSharedContext: running.hasSharedContext,
    hasChannels: true,
    destinations: running.destinations,
    isSending: running.isSending,
    deliveries: running.deliveries,
    series: running.series,
    watch: running.watch,
    open: running.open,
    flush: running.flush,
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

/** By the provider that the user has registered. */
function startForeign(observation: RequestObservation, parent: Context, link: Link | undefined): Span {
  const attributes = attributesOf(observation)
  const options = { kind: SpanKind.SERVER, startTime: observation.startedAt, attributes }
  return tracer().startSpan(nameOf(observation), link ? { ...options, root: true, links: [link] } : options, parent)
}

function start(
  settings: Settings,
  log: FastifyBaseLogger,
  report: (error: unknown) => void,
  redactor: () => Redactor,
  shutdownTimeoutMs = 5_000
): Omit<Running, 'settings' | 'holders'> {
  const {
    service,
    endpoint,
    obstacle,
    console,
    sampleRatio,
    sampler,
    spanProcessors = [],
    keep,
    propagateTo
  } = settings
  const warn = (message: string): void => log.warn(withDocs('wrong-options'), `tracing: ${message}`)
  const spanExport = endpoint ? exportSpans({ endpoint, shutdownTimeoutMs, log }) : undefined
  const processors = [
    ...(spanExport ? [spanExport.processor] : []),
    ...(console ? [printTraces((text) => process.stderr.write(text), keep)] : []),
    ...spanProcessors.map((processor) => guarded(processor, shutdownTimeoutMs, report))
  ]
  const scrubbing = scrubSpans(redactor, processors)
  const traces = keep
    ? holdTraces({
        next: scrubbing,
        hasReceivers: () => processors.length > 0,
        isWatched: console || spanProcessors.length > 0,
        lose: (spans) => spanExport?.lose(spans)
      })
    : undefined
  const decides = createSampler({
    sampleRatio,
    sampler,
    report,
    keepsTraces: traces !== undefined,
    warn,
    ...(propagateTo && { mayCarry: hostMatcher(propagateTo) })
  })
  const home: SpanHome = {
    resource: resourceOf(service),
    sampler: decides,
    limits: limitsFromEnv(warn),
    processor: traces?.processor ?? scrubbing,
    traces
  }
  const provider = new TracerProvider({
    resource: home.resource,
    sampler: home.sampler,
    spanLimits: home.limits,
    spanProcessors: [home.processor]
  })
  // What is registered already stays: each call returns whether ours was accepted.
  trace.setGlobalTracerProvider(provider)
  skipUnsampled(decides.isParentBased && traces === undefined)
  const hasSharedContext = context.setGlobalContextManager(sharedContextManager().enable())
  if (!hasSharedContext) log.info('tracing: a context manager is already registered and stays')
  const hasPropagator = propagation.setGlobalPropagator(propagatorOf(settings, log))
  if (!hasPropagator) {
    log.warn(
      withDocs('nothing-is-exported'),
      'tracing: a propagator is already registered and stays; propagateTo and baggage may not apply'
    )
  }
  enable(provider)
  const closeChannels = openChannels({ provider, isInstrumented, report })
  const destinations = [
    ...(spanExport ? [spanExport.endpoint] : []),
    ...(console ? ['standard error'] : []),
    ...spanProcessors.map(destinationOf)
  ]
  const isSending = spanExport !== undefined || console || spanProcessors.some((one) => !('destination' in one))
  if (spanExport) {
    const { endpoint, protocol, note } = spanExport
    log.info({ endpoint }, `tracing: exporting spans over ${protocol}${note ? ` (${note})` : ''}`)
  } else if (isSending) {
    log.info(`tracing: spans go to ${destinations.join(', ')}`)
  } else {
    log.info(`tracing: ${obstacle}, spans are not exported`)
  }

  function watch({ onStart, onEnd }: SpanReceiver): Stop {
    const finish = async (): Promise<void> => undefined
    const processor = guarded({ onStart, onEnd, forceFlush: finish, shutdown: finish }, shutdownTimeoutMs, report)
    processors.push(processor)
    return () => {
      const at = processors.indexOf(processor)
      if (at !== -1) processors.splice(at, 1)
    }
  }

  async function stop(): Promise<void> {
    // At once: an app that registers while the last spans are sent starts a pipeline of its own.
    disable()
    skipUnsampled(false)
    closeChannels()
    trace.disable()
    if (hasSharedContext) context.disable()
    if (hasPropagator) propagation.disable()
    await provider.shutdown()
  }
  return {
    startSpan: startRequestSpans(home),
    hasSharedContext,
    destinations,
    isSending,
    deliveries: () => (spanExport ? [{ signal: 'spans', to: spanExport.endpoint, ...spanExport.state() }] : []),
    series: spanExport?.series ?? [],
    watch,
    open: async () => spanExport?.open(),
    flush: () => home.processor.forceFlush(),
    stop
  }
}

/** As it calls itself, or as what it is. */
function destinationOf(processor: SpanProcessor): string {
  if ('destination' in processor && typeof processor.destination === 'string') return processor.destination
  const { name } = processor.constructor ?? Object
  return `the application's ${name === 'Object' ? 'span processor' : name}`
}

function propagatorOf({ traceContext, baggage }: Settings, log: FastifyBaseLogger): TextMapPropagator<unknown> {
  const mayWarn = atMostEvery(MINUTE_MS)
  const propagators = [...(traceContext ? [strictTraceContext()] : []), ...(baggage ? [strictBaggage()] : [])]
  return sendingOnlyWhereAllowed(new CompositePropagator({ propagators }), (err) => {
    if (mayWarn()) log.warn(withDocs('context-lost', { err }), 'tracing: context of a call could not be read or sent')
  })
}
