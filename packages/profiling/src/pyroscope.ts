import type { Counts, Service } from '@fastify-observability/observation/internal'
import type { Settings } from './options.ts'
import type { EncodedProfile } from './profiler.ts'

/** What became of the profiles. */
export interface Counters {
  pushed: number
  readonly dropped: Counts<'reason'>
}

/** When the samples of a profile were taken. */
interface Period {
  from: Date
  until: Date
}

/** Collects and pushes profiles. Never rejects: what is not accepted until the signal aborts it is counted as dropped. */
export type Push = (take: () => Promise<EncodedProfile[]>, period: Period, signal: AbortSignal) => Promise<void>

// These end a label or its value.
const SEPARATORS = /[{},=]/g

/** @see https://grafana.com/docs/pyroscope/latest/reference-server-api/ */
export function createPush(
  address: string,
  { service, headers, samplingIntervalMs }: Settings,
  counters: Counters,
  warn: (reason: string) => void
): Push {
  const endpoint = `${address.replace(/\/+$/, '')}/ingest`
  const fixed = { format: 'pprof', name: nameOf(service), spyName: 'nodespy' }

  function drop(error: unknown): void {
    const reason = reasonOf(error)
    counters.dropped.add(reason)
    warn(reason)
  }

  async function send({ kind, bytes }: EncodedProfile, { from, until }: Period, signal: AbortSignal): Promise<void> {
    const query = new URLSearchParams({ ...fixed, from: seconds(from), until: seconds(until) })
    if (kind === 'wall') query.set('sampleRate', String(Math.round(1_000 / samplingIntervalMs)))
    const response = await fetch(`${endpoint}?${query}`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream', ...headers },
      body: new Uint8Array(bytes),
      signal
    })
    // Read to the end, or the connection is not used again.
    await response.arrayBuffer()
    if (!response.ok) throw new Refusal(response.status)
  }

  return async (take, period, signal) => {
    try {
      for (const profile of await take()) {
        await send(profile, period, signal).then(() => void counters.pushed++, drop)
      }
    } catch (error) {
      drop(error)
    }
  }
}

class Refusal extends Error {
  readonly status: number

  constructor(status: number) {
    super(`Pyroscope answered ${status}`)
    this.status = status
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Refusal) return `http_${error.status}`
  if (!(error instanceof Error)) return 'unknown'
  if (error.name === 'TimeoutError') return 'timeout'
  if (error.name === 'AbortError') return 'shutdown'
  // What fetch rejects with when nothing came over the network.
  return error instanceof TypeError && error.cause !== undefined ? 'network_error' : 'not_collected'
}

function seconds(date: Date): string {
  return String(Math.floor(date.getTime() / 1_000))
}

/** The service's name with the labels of all its profiles, as the address of a push has them. */
function nameOf({ name, version, environment }: Service): string {
  const labels = { deployment_environment_name: environment, ...(version && { service_version: version }) }
  const listed = Object.entries(labels).map(([label, value]) => `${label}=${value.replace(SEPARATORS, '_')}`)
  return `${name.replace(SEPARATORS, '_')}{${listed.join(',')}}`
}
