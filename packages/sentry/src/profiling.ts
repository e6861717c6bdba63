import type { httpIntegration, NodeOptions } from '@sentry/node'
import type { Settings } from './options.ts'

interface Profiling {
  integrations: ReturnType<typeof httpIntegration>[]
  options: Pick<NodeOptions, 'profileSessionSampleRate' | 'profileLifecycle'>
}

const NONE: Profiling = { integrations: [], options: {} }
const PEER: string = '@sentry/profiling-node'

/** The profiler, where it is installed. That it is not, or of no use, is only said to those who have asked for it. */
export async function loadProfiling(
  { profilesSampleRate }: Settings,
  isTracing: boolean,
  warn: (message: string) => void
): Promise<Profiling> {
  const rate = profilesSampleRate ?? 0.1
  if (rate === 0) return NONE
  const say = (message: string): Profiling => {
    if (profilesSampleRate !== undefined) warn(message)
    return NONE
  }
  // A profile belongs to a span of Sentry's.
  if (!isTracing)
    return say('no profiles: they need spans of Sentry, and OpenTelemetry or a rate of 0 keeps it from them')
  try {
    const module: unknown = await import(PEER)
    const create: unknown =
      typeof module === 'object' && module !== null && Reflect.get(module, 'nodeProfilingIntegration')
    if (typeof create !== 'function') return say(`no profiles: this version of ${PEER} is not known`)
    return { integrations: [create()], options: { profileSessionSampleRate: rate, profileLifecycle: 'trace' } }
  } catch {
    return say(`no profiles: ${PEER} is not installed or does not run here: npm install ${PEER}`)
  }
}
