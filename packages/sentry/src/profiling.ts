import { isRecord } from '@fastify-observability/observation/internal'
import type { httpIntegration, NodeClient, NodeOptions } from '@sentry/node'
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
 * Profiles while there are spans of the client, whose own profiler is to have the lifecycle "manual". With "trace" it does the
 * same, but goes on for ever where a span never ends, and its native timer keeps the process from ending.
 */
export function profileSpans({ profiler }: SDK, client: NodeClient): void {
  let open = 0
  client.on('spanStart', () => {
    if (open++ === 0) profiler.startProfiler()
  })
  client.on('spanEnd', () => {
    if (open > 0 && --open === 0) profiler.stopProfiler()
  })
}

/** Ends the profile of the client that is under way, if there is one, whoever has begun it. */
export function endProfile({ profiler }: SDK, client: NodeClient): void {
  if (client.getIntegrationByName(INTEGRATION)) profiler.stopProfiler()
}
