import observation from '@fastify-observability/observation'
import {
  answerOf,
  heldIn,
  isFailure,
  keepRule,
  lostIn,
  registryOf,
  resolveService,
  setImmediate,
  withDocs,
  YES_OR_NO
} from '@fastify-observability/observation/internal'
import { type Span, trace } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { addInstrumentations, reportInstrumentations } from './instrumentation/instrumentations.ts'
import { traceLifecycle } from './instrumentation/lifecycle-spans.ts'
import { jobSpans } from './job-span.ts'
import { checkRoute, resolveOptions, type TracingOptions } from './options.ts'
import { startPipeline } from './pipeline.ts'
import { OWN_ATTRIBUTES } from './server/attributes.ts'
import { KEEP_REASON, serverSpans } from './server/span.ts'
import { SCOPE as NAME } from './span.ts'

export type { TracingOptions } from './options.ts'
export { getBaggage, withBaggage } from './propagation/baggage.ts'
export { withSpan } from './span.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The request's server span, `undefined` on untraced routes. */
    span: Span | undefined
  }
}

const EXPORT_HINT = 'OTEL_EXPORTER_OTLP_ENDPOINT, or the option tracing.endpoint, exports spans'

async function tracing(app: FastifyInstance, options: TracingOptions): Promise<void> {
  const settings = resolveOptions(options, (message) => app.log.warn(withDocs('wrong-options'), `tracing: ${message}`))
  if (!settings) return
  const { trustInbound = true, isError, instrumentations = [] } = settings
  const rule = keepRule(settings.keep)

  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  const { observe, publish } = registry
  const report = (error: unknown): void => registry.report(NAME, error)
  const pipeline = startPipeline({
    service: resolveService(settings.service),
    endpoint: settings.endpoint,
    obstacle: settings.obstacle ?? 'no OTLP endpoint configured',
    console: settings.console,
    sampleRatio: settings.sampleRatio,
    sampler: settings.sampler,
    spanProcessors: settings.spanProcessors,
    keep: rule !== undefined,
    propagateTo: settings.propagateTo,
    traceContext: settings.traceContext,
    baggage: settings.baggage,
    shutdownTimeoutMs: settings.shutdownTimeoutMs,
    redactor: () => registry.redactor,
    log: app.log,
    report
  })
  // Before anything that can fail: an app that could not register closes too.
  app.addHook('onClose', async () => {
    await registry.jobs.close()
    await pipeline.release()
  })
  addInstrumentations(instrumentations, trace.getTracerProvider(), report)
  registry.descriptions.instrumentation = reportInstrumentations(app.log, pipeline.hasChannels)
  if (settings.lifecycleSpans) await traceLifecycle(app)
  for (const series of pipeline.series) publish(series)
  registry.onFlush({
    signal: 'spans',
    flush: pipeline.flush,
    held: () => heldIn(pipeline.series),
    dropped: () => lostIn(pipeline.series)
  })

  await registry.feeds.spans.offer(async (receiver) => pipeline.watch(receiver))
  registry.descriptions.addDeliveries(pipeline.deliveries)
  registry.descriptions.add('spans', () => ({
    to: pipeline.destinations,
    hint: pipeline.isSending ? undefined : (settings.obstacle ?? EXPORT_HINT)
  }))
  registry.reserve(rule ? [...OWN_ATTRIBUTES, KEEP_REASON] : OWN_ATTRIBUTES)
  registry.claims.set(
    'span',
    `${NAME}: request.span is there already; rename that decorator, or set the option tracing: false`
  )
  app.decorateRequest('span', undefined)
  app.addHook('onRoute', ({ config }) => checkRoute(config))
  observe(
    serverSpans({
      startSpan: pipeline.startSpan,
      hasSharedContext: pipeline.hasSharedContext,
      rule,
      isTrusted: (raw) =>
        typeof trustInbound === 'boolean'
          ? trustInbound
          : answerOf('trustInbound', () => trustInbound(raw), false, report, YES_OR_NO),
      isError(outcome, observation) {
        const hasFailed = isFailure(observation, outcome)
        return isError
          ? answerOf('isError', () => isError(outcome, observation), hasFailed, report, YES_OR_NO)
          : hasFailed
      }
    })
  )
  observe(jobSpans())
  // Not sooner, which would delay the start, and before there is something to export, which would delay a request.
  app.addHook('onListen', (done) => {
    setImmediate(pipeline.open)
    done()
  })
}

/** Makes a span of each request, and sends spans over OTLP. */
export default fp(tracing, { name: NAME, fastify: '^5.10.0' })
