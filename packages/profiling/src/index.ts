import observation from '@fastify-observability/observation'
import {
  atMostEvery,
  clearInterval,
  countBy,
  type Registry,
  registryOf,
  runInBackground,
  setInterval,
  withDocs,
  within
} from '@fastify-observability/observation/internal'
import { type Context, ROOT_CONTEXT, type SpanContext, trace } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { NAME, type ProfilingOptions, resolveOptions } from './options.ts'
import { type EncodedProfile, type Labels, loadPeer, type Profiler, startProfiler } from './profiler.ts'
import { type Counters, createPush, type Push } from './pyroscope.ts'

export type { ProfilingOptions } from './options.ts'

const MINUTE_MS = 60_000
/** What one push may take, and all of a close. */
const PUSH_MS = 10_000
const CLOSE_MS = 2_000
/** What Grafana looks for on a span that may have a flame graph. */
const PROFILE_ID = 'pyroscope.profile.id'

/** What the labels of a sample are made from. */
interface Spanned {
  readonly context: Context | undefined
  readonly spanContext: SpanContext | undefined
}

async function profiling(app: FastifyInstance, options: ProfilingOptions): Promise<void> {
  const warn = (message: string): void => app.log.warn(withDocs('profiles'), `${NAME}: ${message}`)
  const settings = resolveOptions(options, (message) => app.log.warn(withDocs('wrong-options'), `${NAME}: ${message}`))
  const { serverAddress, pushIntervalMs } = settings
  await app.register(observation)
  const registry = registryOf(app)
  if (!registry.admit(NAME)) return
  if (serverAddress === undefined) {
    warn('no profiles: PYROSCOPE_SERVER_ADDRESS, or the option serverAddress, says where Pyroscope is')
    return
  }
  const peer = await loadPeer()
  if (typeof peer === 'string') {
    warn(peer)
    return
  }
  const profiler = startProfiler(peer, settings)
  if (typeof profiler === 'string') {
    warn(profiler)
    return
  }
  if (profiler.hasLabels) labelSamples(registry, profiler)
  else if (settings.labels)
    warn('samples have neither route nor span; Node 22 gives them with --experimental-async-context-frame')

  const counters: Counters = { pushed: 0, dropped: countBy('reason') }
  publishCounters(registry, counters)
  const mayWarn = atMostEvery(MINUTE_MS)
  const push = createPush(serverAddress, settings, counters, (reason) => {
    if (mayWarn()) warn(`a profile was dropped: ${reason}; profiles_dropped_total counts them`)
  })
  app.addHook('onClose', pushRegularly(profiler, push, pushIntervalMs))
}

/** Pushes what is sampled, until the function that it returns is called, which pushes the rest. */
function pushRegularly(profiler: Profiler, push: Push, intervalMs: number): () => Promise<void> {
  let since = new Date()
  let underWay: Promise<void> | undefined
  const ending = new AbortController()

  async function deliver(take: () => Promise<EncodedProfile[]>, timeoutMs: number): Promise<void> {
    const from = since
    since = new Date()
    const signal = AbortSignal.any([ending.signal, AbortSignal.timeout(timeoutMs)])
    await push(take, { from, until: since }, signal)
    underWay = undefined
  }

  const timer = setInterval(() => {
    // What is sampled meanwhile is in the next profile.
    underWay ??= runInBackground(deliver, profiler.collect, PUSH_MS)
  }, intervalMs)
  timer.unref()
  return async () => {
    clearInterval(timer)
    const last = runInBackground(deliver, profiler.stop, CLOSE_MS)
    await within(CLOSE_MS, Promise.all([underWay, last]))
    ending.abort()
  }
}

/** Writes route and span on the samples of requests and jobs, and on each span that it has samples. */
function labelSamples({ observe }: Registry, profiler: Profiler): void {
  observe({
    name: NAME,
    start: markSpan,
    run(observation, next) {
      const { method, route } = observation
      profiler.run({ http_route: route, span_name: `${method} ${route}`, ...spanLabel(observation) }, next)
    }
  })
  observe({
    name: NAME,
    kind: 'job',
    start: markSpan,
    run(observation, next) {
      const { job } = observation
      profiler.run({ job, span_name: job, ...spanLabel(observation) }, next)
    }
  })
}

function markSpan({ context = ROOT_CONTEXT, spanContext }: Spanned): void {
  if (spanContext) trace.getSpan(context)?.setAttribute(PROFILE_ID, spanContext.spanId)
}

function spanLabel({ spanContext }: Spanned): Labels {
  return spanContext ? { span_id: spanContext.spanId } : {}
}

function publishCounters({ publish }: Registry, counters: Counters): void {
  publish({
    name: 'profiles_pushed_total',
    help: 'Profiles accepted by Pyroscope.',
    type: 'counter',
    labelNames: [],
    collect: () => [[{}, counters.pushed]]
  })
  publish({
    name: 'profiles_dropped_total',
    help: 'Profiles dropped.',
    type: 'counter',
    labelNames: ['reason'],
    collect: counters.dropped.collect
  })
}

/** Sends profiles to Pyroscope. */
export default fp(profiling, { name: NAME, fastify: '^5.10.0' })
