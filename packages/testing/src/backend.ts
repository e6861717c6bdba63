import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePorts } from './ports.ts'

export interface BackendOptions {
  /** The OpenTelemetry Collector's program. */
  collector: string
  /** Jaeger's program. */
  jaeger: string
}

/** A span as Jaeger gives it back. */
export interface StoredSpan {
  service: string
  name: string
  kind: (typeof KINDS)[number]
  spanId: string
  /** Empty for a root. */
  parentSpanId: string
  attributes: Record<string, string>
}

/** A collector and, behind it, a Jaeger: real ones, with the configuration of the stack, in processes of their own. */
export interface Backend {
  /** Takes OTLP over gRPC. */
  url: string
  /** Resolves with the trace, in the order of time, when it has so many spans; with what there is when that takes too long. */
  trace(traceId: string, spans: number): Promise<StoredSpan[]>
  /** Ends both, by force if it takes too long. Resolves with whether they ended well. */
  close(): Promise<boolean>
}

interface Program {
  stop(): Promise<boolean>
}

/** The part of the OTLP JSON that is read. */
interface TraceAnswer {
  result?: {
    resourceSpans: { resource: { attributes: KeyValue[] }; scopeSpans: { spans: WireSpan[] }[] }[]
  }
}
interface WireSpan {
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes?: KeyValue[]
}
interface KeyValue {
  key: string
  value: Record<string, unknown>
}

const HOST = '127.0.0.1'
const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] as const
const READY_MS = 30_000
const TRACE_MS = 30_000
const STOP_MS = 10_000
const PROBE_MS = 2_000
const POLL_MS = 50
const SAID_CHARACTERS = 4_000
// Becomes the program, which ends with the process that started it: nobody else has the pipe's other end, so not even a kill leaves it behind.
const LEASH = '(read -r _ <&3; kill $$) >/dev/null 2>&1 & exec "$0" "$@" 3<&-'

/** @throws if one of them is not ready in time; its last words are in the message. */
export async function startBackend({ collector, jaeger }: BackendOptions): Promise<Backend> {
  const ports = await freePorts(9)
  const address = () => `${HOST}:${ports.pop()}`
  const otlp = address()
  const query = address()
  const health = address()
  const shared = { JAEGER_OTLP_GRPC: address() }
  const store = await start(jaeger, 'jaeger.yaml', `http://${health}/status`, {
    ...shared,
    JAEGER_QUERY_HTTP: query,
    JAEGER_QUERY_GRPC: address(),
    JAEGER_HEALTH: health,
    JAEGER_METRICS_PORT: String(ports.pop())
  })
  const collectorHealth = address()
  const entrance = await start(collector, 'collector.yaml', `http://${collectorHealth}`, {
    ...shared,
    COLLECTOR_OTLP_GRPC: otlp,
    COLLECTOR_OTLP_HTTP: address(),
    COLLECTOR_HEALTH: collectorHealth,
    COLLECTOR_METRICS_PORT: String(ports.pop())
  }).catch(async (error) => {
    await store.stop()
    throw error
  })

  return {
    url: `http://${otlp}`,
    async trace(traceId, count) {
      const until = performance.now() + TRACE_MS
      for (;;) {
        const spans = await read(`http://${query}/api/v3/traces/${traceId}`)
        if (spans.length >= count || performance.now() > until) return spans
        await wait(POLL_MS)
      }
    },
    async close() {
      // The collector first, which hands on what it still has.
      const ends = [await entrance.stop(), await store.stop()]
      return !ends.includes(false)
    }
  }
}

/** Starts a program with a configuration of the stack and resolves when it answers for its health. */
async function start(
  program: string,
  configuration: string,
  health: string,
  env: Record<string, string>
): Promise<Program> {
  const file = fileURLToPath(new URL(`../../../docker/${configuration}`, import.meta.url))
  const child = spawn('sh', ['-c', LEASH, program, '--config', file], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe']
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text) => {
    said = (said + text).slice(-SAID_CHARACTERS)
  })
  const ended = once(child, 'exit')

  async function stop(): Promise<boolean> {
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    const [code] = await ended
    clearTimeout(late)
    // The leash's end of the pipe, which would keep this process alive.
    child.stdio[3]?.destroy()
    return code === 0
  }

  const until = performance.now() + READY_MS
  while (child.exitCode === null && performance.now() < until) {
    const answer = await ask(health)
    if (answer?.ok) return { stop }
    await wait(POLL_MS)
  }
  await stop()
  throw new Error(`${program} did not get ready: ${said}`)
}

/** The trace as it is stored by now, no spans before anything of it has come. */
async function read(url: string): Promise<StoredSpan[]> {
  const answer = await ask(url)
  if (!answer?.ok) return []
  const { result }: TraceAnswer = JSON.parse(answer.text)
  const spans = (result?.resourceSpans ?? []).flatMap(({ resource, scopeSpans }) => {
    const service = plain(resource.attributes)['service.name'] ?? ''
    return scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ service, span })))
  })
  const order = ({ span }: { span: WireSpan }) => span.startTimeUnixNano + span.endTimeUnixNano
  return spans
    .sort((one, other) => order(one).localeCompare(order(other)))
    .map(({ service, span: { spanId, parentSpanId = '', name, kind, attributes = [] } }) => {
      return { service, name, kind: KINDS[kind] ?? 'UNSPECIFIED', spanId, parentSpanId, attributes: plain(attributes) }
    })
}

async function ask(url: string): Promise<{ ok: boolean; text: string } | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_MS) })
    return { ok: response.ok, text: await response.text() }
  } catch {
    return undefined
  }
}

function plain(attributes: KeyValue[]): Record<string, string> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, String(Object.values(value)[0])]))
}
