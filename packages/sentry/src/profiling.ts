import { isRecord } from '@fastify-observability/observation/internal'
import { TraceFlags } from '@opentelemetry/api'
import type { httpIntegration, NodeClient, NodeOptions, Span } from '@sentry/node'
import type { Settings } from './options.ts'
import type { SDK } from './sdk.ts'

interface Profiling {
  integrations: ReturnType<typeof httpIntegration>[]
  options: Pick<NodeOptions, 'profileSessionSampleRate' | 'profileLifecycle'>
}

const NONE: Profiling = { integrations: [], options: {} }
const INTEGRATION = 'ProfilingIntegration'
const PEER: string = '@sentry/profiling-node'

/** The profiler, where it is installed. Only those who have set `profilesSampleRate` are warned that it cannot run. */
export async function loadProfiling(
  { profilesSampleRate }: Settings,
  isTracing: boolean,
  warn: (message: string) => void
): Promise<Profiling> {
  const rate = profilesSampleRate ?? 0.1
  if (rate === 0) return NONE
  const without = (message: string): Profiling => {
    if (profilesSampleRate !== undefined) warn(message)
    return NONE
  }
  // A profile belongs to a span of Sentry's.
  if (!isTracing)
    return without(
      'no profiles: they need spans of Sentry, and there are none beside OpenTelemetry or with tracesSampleRate 0'
    )
  try {
    const module: unknown = await import(PEER)
    const create: unknown = isRecord(module) && module.nodeProfilingIntegration
    if (typeof create !== 'function') return without(`no profiles: this version of ${PEER} is not known`)
    return { integrations: [create()], options: { profileSessionSampleRate: rate, profileLifecycle: 'trace' } }
  } catch {
    return without(`no profiles: ${PEER} is not installed or does not run here: npm install ${PEER}`)
  }
}

/**
 * Profiles while sampled spans of the client are open, whose own profiler is to have the lifecycle "manual". With "trace" it
 * goes on for ever once a span has not ended, or a span below an unsampled one has begun, and keeps the process from ending.
 * @returns a function that ends the current profile, also one that the application has started, and lets no span start another
 */
export function profileSpans(Sentry: SDK, client: NodeClient, isByTrace: boolean): () => void {
  if (!client.getIntegrationByName(INTEGRATION)) return () => undefined
  const { startProfiler, stopProfiler } = Sentry.profiler
  let open = 0

  /** The SDK asks the profiler of the client that is in force, which may be one that the application has made since. */
  function ask(what: () => void): void {
    if (Sentry.getClient() === client) what()
    else
      Sentry.withScope((scope) => {
        scope.setClient(client)
        what()
      })
  }
  function begin(span: Span): void {
    if (isSampled(span) && open++ === 0) ask(startProfiler)
  }
  function end(span: Span): void {
    if (isSampled(span) && --open === 0) ask(stopProfiler)
  }

  const stops = isByTrace ? [client.on('spanStart', begin), client.on('spanEnd', end)] : []
  return () => {
    for (const stop of stops) stop()
    ask(stopProfiler)
  }
}

function isSampled(span: Span): boolean {
  return (span.spanContext().traceFlags & TraceFlags.SAMPLED) !== 0
}
