import { readFileSync } from 'node:fs'
import type { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { atMostEvery, parseEnv, type Series } from '@fastify-observability/observation'
import { TraceFlags } from '@opentelemetry/api'
import { ExportResultCode, getNumberFromEnv, getStringFromEnv } from '@opentelemetry/core'
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { OTLPTraceExporter as HttpExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor
} from '@opentelemetry/sdk-trace-node'
import type { FastifyBaseLogger } from 'fastify'
import * as v from 'valibot'

export interface SpanExportOptions {
  /** Base URL of the collector. */
  endpoint: string
  /** How long a shutdown may take to deliver what is queued. */
  shutdownTimeoutMs: number
  log: Pick<FastifyBaseLogger, 'warn'>
}

/** Batches spans, delivers them over OTLP and counts each once: as exported, or as dropped for a reason. */
export interface SpanExport {
  /** Its `shutdown` resolves within `shutdownTimeoutMs`, whatever the collector does. */
  processor: SpanProcessor
  /** For logs: how and where to. */
  protocol: 'OTLP/gRPC' | 'OTLP/HTTP'
  endpoint: string
  series: readonly Series[]
}

/** One attempt: how many spans of an accepted batch were rejected, or why the batch was not accepted. */
type Sent = { rejected: number } | { error: unknown }

interface Connection {
  send(spans: ReadableSpan[]): Promise<Sent>
  close(): Promise<void>
}

const NAME = '@fastify-observability/tracing'
const MINUTE_MS = 60_000
const MAX_QUEUE_SIZE = 2048
const TIMEOUT_MS = 10_000
const BATCH_MS = 30_000
const FIRST_BACKOFF_MS = 250
const MAX_BACKOFF_MS = 5_000
// Shares of the time for a shutdown, each with room for what comes after it.
const ATTEMPT_SHARE = 0.8
const DELIVERY_SHARE = 0.9
const SETTLING_SHARE = 0.95
const CLOSING_SHARE = 0.04

const protocol = v.optional(v.picklist(['grpc', 'http/protobuf']))
const envSchema = v.object({ OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_PROTOCOL: protocol })

// By number. https://grpc.io/docs/guides/status-codes/
const GRPC_CODES = `
  OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED
  FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`
  .trim()
  .split(/\s+/)
// https://opentelemetry.io/docs/specs/otlp/#failures
const TRANSIENT_GRPC = new Set([
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNAVAILABLE',
  'DATA_LOSS'
])
const TRANSIENT_NETWORK = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT'
])
// All that upstream leaves of an answer 429, 502, 503 or 504, or of none.
const TRANSIENT_MESSAGES = new Set([
  'Export failed with retryable status',
  'Request timed out',
  'Concurrent export limit reached'
])

/** @throws TypeError if the environment names a protocol that it does not speak, or headers that cannot be sent. */
export function exportSpans({ endpoint, shutdownTimeoutMs, log }: SpanExportOptions): SpanExport {
  const env = parseEnv(NAME, envSchema)
  const protocol = env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ?? env.OTEL_EXPORTER_OTLP_PROTOCOL ?? 'grpc'
  const maxQueueSize = numberFromEnv('OTEL_BSP_MAX_QUEUE_SIZE') ?? MAX_QUEUE_SIZE
  const batchMs = numberFromEnv('OTEL_BSP_EXPORT_TIMEOUT') ?? BATCH_MS
  const timeoutMs = numberFromEnv('OTEL_EXPORTER_OTLP_TRACES_TIMEOUT', 'OTEL_EXPORTER_OTLP_TIMEOUT') ?? TIMEOUT_MS
  // Upstream cannot cancel an attempt: one that begins just before the shutdown must end by itself in time.
  const attemptMs = Math.min(timeoutMs, ATTEMPT_SHARE * shutdownTimeoutMs)
  const connect = protocol === 'grpc' ? connectGrpc : connectHttp
  const connection = connect(endpoint, attemptMs)

  const processed = new Map(['', 'queue_full', 'shutdown'].map((errorType) => [errorType, 0]))
  const exported = new Map(['', 'export_failed', 'rejected', 'shutdown'].map((errorType) => [errorType, 0]))
  let queued = 0
  let inFlight = 0

  const shown = withoutSecrets(endpoint)
  const mayWarn = atMostEvery(MINUTE_MS)
  let unsaid = { spans: 0, reason: '' }
  function drop(counter: Map<string, number>, errorType: string, spans: number, reason = errorType): void {
    if (spans === 0) return
    add(counter, errorType, spans)
    unsaid = { spans: unsaid.spans + spans, reason }
    if (mayWarn()) warn()
  }
  function warn(): void {
    const { spans, reason } = unsaid
    if (spans === 0) return
    unsaid = { spans: 0, reason: '' }
    try {
      log.warn({ endpoint: shown, spans_lost: spans, reason }, 'tracing: spans could not be exported')
    } catch {
      // A log on a full disk throws; nobody catches it here, and the spans are counted anyway.
    }
  }

  const deliveries = new Set<Promise<void>>()
  const stopping = new AbortController()
  let stopped = false
  let stopBy = Number.POSITIVE_INFINITY

  async function attempt(spans: ReadableSpan[]): Promise<Sent> {
    const left = stopBy - performance.now()
    if (left >= attemptMs) return connection.send(spans)
    const last = connect(endpoint, Math.max(1, left))
    return last.send(spans).finally(last.close)
  }

  async function deliver(spans: ReadableSpan[]): Promise<Sent> {
    const giveUpAt = performance.now() + batchMs
    for (let retry = 0; ; retry++) {
      const sent = await attempt(spans)
      const wait = 'error' in sent ? waitBeforeRetry(sent.error, retry) : undefined
      if (wait === undefined || performance.now() + wait >= Math.min(giveUpAt, stopBy)) return sent
      // The shutdown wakes it for another try at once.
      if ((await pause(wait)) === 'woken') retry = -1
    }
  }

  function pause(ms: number): Promise<unknown> {
    if (stopping.signal.aborted) return sleep(ms)
    return sleep(ms, 'slept', { signal: stopping.signal, ref: false }).catch(() => 'woken')
  }

  const exporter: SpanExporter = {
    export(spans, done) {
      queued -= spans.length
      inFlight += spans.length
      add(processed, '', spans.length)
      const sending = deliver(spans).catch((error): Sent => ({ error }))
      const delivery = sending.then((sent) => {
        deliveries.delete(delivery)
        if (!stopped) settle(spans.length, sent)
        done({ code: 'error' in sent ? ExportResultCode.FAILED : ExportResultCode.SUCCESS })
      })
      deliveries.add(delivery)
    },
    shutdown: async () => undefined
  }
  function settle(spans: number, sent: Sent): void {
    inFlight -= spans
    if ('error' in sent) {
      const cutShort = stopping.signal.aborted && waitBeforeRetry(sent.error, 0) !== undefined
      drop(exported, cutShort ? 'shutdown' : 'export_failed', spans, reasonOf(sent.error))
      return
    }
    const rejected = Math.min(sent.rejected, spans)
    add(exported, '', spans - rejected)
    drop(exported, 'rejected', rejected)
  }

  /** A flush waits neither for the batch that was in flight already nor, once one has failed, for the others. */
  async function settled(flush: Promise<void>): Promise<void> {
    await flush.catch(() => undefined)
    await Promise.all(deliveries)
  }

  const batches = new BatchSpanProcessor(exporter, {
    maxQueueSize,
    // Deliveries end by themselves; the processor's own clock must not start the next batch beside one.
    exportTimeoutMillis: batchMs + 2 * attemptMs
  })
  const processor: SpanProcessor = {
    onStart: (span, context) => batches.onStart(span, context),
    onEnd(span) {
      if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return
      if (stopping.signal.aborted) return drop(processed, 'shutdown', 1)
      // Bounded here, with the spans in flight: BatchSpanProcessor forgets those, and drops without a word.
      if (queued + inFlight >= maxQueueSize) return drop(processed, 'queue_full', 1)
      queued++
      batches.onEnd(span)
    },
    forceFlush: () => settled(batches.forceFlush()),
    async shutdown() {
      if (stopping.signal.aborted) return
      stopBy = performance.now() + DELIVERY_SHARE * shutdownTimeoutMs
      stopping.abort()
      await within(SETTLING_SHARE * shutdownTimeoutMs, settled(batches.shutdown()))
      stopped = true
      drop(processed, 'shutdown', queued)
      drop(exported, 'shutdown', inFlight)
      queued = inFlight = 0
      // Nobody will scrape the counters any more.
      warn()
      await within(CLOSING_SHARE * shutdownTimeoutMs, connection.close())
    }
  }
  const series: Series[] = [
    {
      name: 'otel_sdk_exporter_span_exported_total',
      help: 'Spans whose export has ended, with the reason for those that were lost.',
      type: 'counter',
      labelNames: ['error_type'],
      collect: () => byErrorType(exported)
    },
    {
      name: 'otel_sdk_processor_span_processed_total',
      help: 'Sampled spans handed to the exporter, and with a reason those dropped before it.',
      type: 'counter',
      labelNames: ['error_type'],
      collect: () => byErrorType(processed)
    },
    {
      name: 'otel_sdk_processor_span_queue_size',
      help: 'Spans that wait for the exporter or are being exported.',
      type: 'gauge',
      labelNames: [],
      collect: () => [[[], queued + inFlight]]
    }
  ]
  return { processor, protocol: protocol === 'grpc' ? 'OTLP/gRPC' : 'OTLP/HTTP', endpoint: shown, series }
}

function add(counter: Map<string, number>, errorType: string, spans: number): void {
  counter.set(errorType, (counter.get(errorType) ?? 0) + spans)
}

function byErrorType(counter: Map<string, number>): [string[], number][] {
  return Array.from(counter, ([errorType, spans]) => [[errorType], spans])
}

function connectGrpc(url: string, timeoutMillis: number): Connection {
  const exporter = newGrpcExporter(url, timeoutMillis)
  return connectionOf(exporter, () => exporter.shutdown())
}

function newGrpcExporter(url: string, timeoutMillis: number): GrpcExporter {
  try {
    return new GrpcExporter({ url, timeoutMillis })
  } catch {
    // Upstream's message repeats the value.
    throw new TypeError(`${NAME}: OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs of printable ASCII`)
  }
}

function connectHttp(endpoint: string, timeoutMillis: number): Connection {
  // Upstream's own agent keeps its sockets when the exporter has shut down.
  let agent: Agent | undefined
  const exporter = new HttpExporter({
    url: tracesUrl(endpoint),
    timeoutMillis,
    async httpAgentOptions(scheme) {
      const { Agent } = scheme === 'http:' ? await import('node:http') : await import('node:https')
      agent = new Agent({
        keepAlive: true,
        ...(scheme === 'https:' && { ca: pem('CERTIFICATE'), cert: pem('CLIENT_CERTIFICATE'), key: pem('CLIENT_KEY') })
      })
      return agent
    }
  })
  return connectionOf(exporter, async () => {
    agent?.destroy()
    await exporter.shutdown()
  })
}

/** @see https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp */
function tracesUrl(endpoint: string): string {
  if (endpoint === process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return endpoint
  const url = new URL(endpoint)
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`
  return url.href
}

function pem(name: string): Buffer | undefined {
  const file = getStringFromEnv(`OTEL_EXPORTER_OTLP_TRACES_${name}`) ?? getStringFromEnv(`OTEL_EXPORTER_OTLP_${name}`)
  return file === undefined ? undefined : readFileSync(file)
}

const delegateSchema = v.object({ _serializer: v.looseObject({ deserializeResponse: v.function() }) })
const partialSuccessSchema = v.object({
  partialSuccess: v.object({ rejectedSpans: v.pipe(v.number(), v.minValue(0)) })
})

function connectionOf(exporter: SpanExporter, close: () => Promise<void>): Connection {
  let rejected = 0
  // Upstream reports a partial success as a success and only logs its number. It reads the response in the same tick as
  // it calls back, so the number belongs to the call that is answered next.
  const delegate: unknown = Reflect.get(exporter, '_delegate')
  if (v.is(delegateSchema, delegate)) {
    const serializer = delegate._serializer
    delegate._serializer = {
      ...serializer,
      deserializeResponse(bytes) {
        const response = serializer.deserializeResponse(bytes)
        if (v.is(partialSuccessSchema, response)) rejected = response.partialSuccess.rejectedSpans
        return response
      }
    }
  }
  return {
    send(spans) {
      return new Promise((resolve) => {
        exporter.export(spans, ({ code, error }) => {
          resolve(code === ExportResultCode.SUCCESS ? { rejected } : { error })
          rejected = 0
        })
      })
    },
    close: () => close().catch(() => undefined)
  }
}

/** Milliseconds, or `undefined` for what is permanent. */
function waitBeforeRetry(error: unknown, retry: number): number | undefined {
  const grpc = grpcCode(error)
  const asked = retryInfoMs(error)
  const transient = grpc
    ? TRANSIENT_GRPC.has(grpc) || (grpc === 'RESOURCE_EXHAUSTED' && asked !== undefined)
    : error instanceof Error && (TRANSIENT_MESSAGES.has(error.message) || TRANSIENT_NETWORK.has(codeOf(error)))
  if (!transient) return undefined
  // Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
  const backoff = Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** retry)
  return (asked ?? 0) + backoff
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function grpcCode(error: unknown): string | undefined {
  return v.is(grpcErrorSchema, error) ? GRPC_CODES[error.code] : undefined
}

/** What went wrong, in words of our own: a message of upstream or of the collector may repeat a header's value. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : ''
  const network = [...TRANSIENT_NETWORK].find((code) => message.includes(code))
  const grpc = grpcCode(error)
  if (grpc) return network ? `${grpc} (${network})` : grpc
  if (TRANSIENT_MESSAGES.has(message)) return message
  const code = codeOf(error)
  if (/^\d{3}$/.test(code)) return `HTTP ${code}`
  return /^[A-Z][A-Z_]+$/.test(code) ? code : 'the exporter failed'
}

const grpcErrorSchema = v.object({ code: v.number(), metadata: v.object({ get: v.function() }) })

/** The delay that a throttling collector asks for. @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling */
function retryInfoMs(error: unknown): number | undefined {
  if (!v.is(grpcErrorSchema, error)) return undefined
  const values = error.metadata.get('grpc-status-details-bin')
  const details: unknown = Array.isArray(values) ? values[0] : undefined
  if (!(details instanceof Uint8Array)) return undefined
  for (const any of messages(details, 3)) {
    const [type] = messages(any, 1)
    if (!type || !Buffer.from(type).toString().endsWith('google.rpc.RetryInfo')) continue
    const [delay] = messages(any, 2).flatMap((info) => messages(info, 1))
    return delay ? 1_000 * number(delay, 1) + number(delay, 2) / 1e6 : 0
  }
  return undefined
}

function messages(bytes: Uint8Array, wanted: number): Uint8Array[] {
  return fields(bytes).flatMap(([field, value]) => (field === wanted && typeof value !== 'number' ? [value] : []))
}

function number(bytes: Uint8Array, wanted: number): number {
  return (
    fields(bytes).flatMap(([field, value]) => (field === wanted && typeof value === 'number' ? [value] : []))[0] ?? 0
  )
}

/** The varints and length-delimited fields of a protobuf message, up to anything else. */
function fields(bytes: Uint8Array): [field: number, value: number | Uint8Array][] {
  const found: [number, number | Uint8Array][] = []
  let at = 0
  function varint(): number {
    let value = 0
    for (let unit = 1; at < bytes.length; unit *= 128) {
      const byte = bytes[at++] ?? 0
      value += (byte % 128) * unit
      if (byte < 128) break
    }
    return value
  }
  while (at < bytes.length) {
    const key = varint()
    const value = varint()
    const wireType = key % 8
    if (wireType === 0) {
      found.push([Math.floor(key / 8), value])
    } else if (wireType === 2) {
      found.push([Math.floor(key / 8), bytes.subarray(at, at + value)])
      at += value
    } else {
      break
    }
  }
  return found
}

function numberFromEnv(...names: string[]): number | undefined {
  return names.map((name) => getNumberFromEnv(name)).find((value) => value !== undefined && value > 0)
}

function withoutSecrets(endpoint: string): string {
  const { origin, pathname } = new URL(endpoint)
  return `${origin}${pathname.replace(/\/$/, '')}`
}

/** Waits for work that cannot fail, at most so long. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise: expired, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  await Promise.race([work, expired])
  clearTimeout(timer)
}
