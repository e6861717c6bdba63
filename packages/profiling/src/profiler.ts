// biome-ignore lint/suspicious/noTsIgnore: without the peer it is needed, with it there is nothing to expect.
/** @ts-ignore: the types of an optional peer, for those who have it. */
import type * as Pprof from '@datadog/pprof'
import { isRecord } from '@fastify-observability/observation/internal'
import type { Settings } from './options.ts'

/** What is written on a sample. */
export type Labels = Readonly<Record<string, string>>

/** A profile in pprof's format, zipped. */
export interface EncodedProfile {
  kind: 'wall' | 'heap'
  bytes: Buffer
}

/** The profiler of the process, while it runs. */
export interface Profiler {
  /** Whether samples take labels; they do not where Node has no AsyncContextFrame. */
  readonly hasLabels: boolean
  /** Writes the labels on each sample taken in the function and in all that it calls, then or later. */
  run(labels: Labels, next: () => void): void
  /** What was sampled since it was started or collected. */
  collect(): Promise<EncodedProfile[]>
  /** Collects a last time and stops. */
  stop(): Promise<EncodedProfile[]>
}

type Peer = typeof Pprof
type Profile = ReturnType<Peer['time']['stop']>

const PEER: string = '@datadog/pprof'
/** The contexts of so many milliseconds are kept, which is more than passes from one push to the next. */
const CONTEXTS_MS = 60_000
const HEAP_INTERVAL_BYTES = 512 * 1024
const HEAP_STACK_DEPTH = 64
/** As Pyroscope's own client names them. */
const SAMPLE_TYPES: Labels = { sample: 'samples', objects: 'inuse_objects', space: 'inuse_space' }

/** The peer, or a sentence on why there are no profiles. */
export async function loadPeer(): Promise<Peer | string> {
  try {
    const module: unknown = await import(PEER)
    return isPeer(module) ? module : `no profiles: this version of ${PEER} is not known`
  } catch {
    return `no profiles: ${PEER} is not installed or does not run here: npm install ${PEER}`
  }
}

function isPeer(module: unknown): module is Peer {
  return isRecord(module) && isRecord(module.time) && 'runWithContext' in module.time && 'encode' in module
}

/** Starts the profiler of the process, or says why not. */
export function startProfiler(peer: Peer, settings: Settings): Profiler | string {
  if (peer.time.isStarted())
    return "already started in this process, by another app or other code; this app's settings are ignored"
  try {
    return open(peer, settings)
  } catch (error) {
    return `no profiles: ${PEER} cannot start: ${error instanceof Error ? error.message : ''}`
  }
}

function open(
  { time, heap, encode }: Peer,
  { samplingIntervalMs, pushIntervalMs, heap: withHeap, labels }: Settings
): Profiler {
  time.start({
    intervalMicros: samplingIntervalMs * 1_000,
    durationMillis: Math.max(pushIntervalMs, CONTEXTS_MS),
    // The processor time of samples needs them too.
    withContexts: true,
    useCPED: labels,
    collectCpuTime: true
  })
  if (withHeap) heap.start(HEAP_INTERVAL_BYTES, HEAP_STACK_DEPTH)

  async function take(isLast: boolean): Promise<EncodedProfile[]> {
    const profiles: [EncodedProfile['kind'], Profile][] = [['wall', time.stop(!isLast, labelsOf)]]
    if (withHeap) profiles.push(['heap', heap.profile()])
    if (withHeap && isLast) heap.stop()
    return Promise.all(profiles.map(async ([kind, profile]) => ({ kind, bytes: await encode(renamed(profile)) })))
  }

  const probe = {}
  let isRunning = true
  return {
    hasLabels: labels && time.runWithContext(probe, () => time.getContext()) === probe,
    run(labels, next) {
      // Requests may still be answered when the profiler has stopped.
      if (isRunning) time.runWithContext(labels, next)
      else next()
    },
    collect: () => take(false),
    stop() {
      isRunning = false
      return take(true)
    }
  }
}

function labelsOf({ context }: { context?: { context?: object } }): Record<string, string> {
  return { ...context?.context }
}

function renamed(profile: Profile): Profile {
  const { sampleType, stringTable } = profile
  for (const valueType of sampleType) {
    const name = SAMPLE_TYPES[stringTable.strings[Number(valueType.type)] ?? '']
    if (name !== undefined) valueType.type = stringTable.dedup(name)
  }
  return profile
}
