import { setTimeout as sleep } from 'node:timers/promises'
import type { Series } from '@fastify-observability/observation'
import {
  atMostEvery,
  type Counts,
  countBy,
  parseEnv,
  runInBackground,
  within
} from '@fastify-observability/observation/internal'
import { TraceFlags } from '@opentelemetry/api'
import { getNumberFromEnv } from '@opentelemetry/core'
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace'
import type { FastifyBaseLogger } from 'fastify'
import * as v from 'valibot'
import { SpanBatch } from '../encoding/batch.ts'
import { connectGrpc, connectHttp, type Sent } from './connection.ts'
import { reasonOf, waitBeforeRetry } from './failure.ts'

export interface SpanExportOptions {
  /** Base URL of the collector. */
  endpoint: string
  /** How long a shutdown may take to deliver what is queued. */
  shutdownTimeoutMs: number
  log: Pick<FastifyBaseLogger, 'warn'>
}

/** Batches spans, delivers them over OTLP and counts each once: as exported, or as dropped for a reason. */
export interface SpanExport {
  /** Loads what the first batch needs. Never rejects. */
  open(): Promise<void>
  /** Its `shutdown` resolves within `shutdownTimeoutMs`, whatever the collector does. */
  processor: SpanProcessor
  /** For logs: how and where to. */
  protocol: 'OTLP/gRPC' | 'OTLP/HTTP'
  endpoint: string
  series: readonly Series[]
}

const NAME = '@fastify-observability/tracing'
const MINUTE_MS = 60_000
const MAX_QUEUE_SIZE = 2048
const MAX_BATCH_SIZE = 512
const MAX_ENDED = 8
const DELAY_MS = 5_000
const TIMEOUT_MS = 10_000
const BATCH_MS = 30_000
// A timer takes more for a millisecond.
const MAX_TIMER_MS = 2 ** 31 - 1
// Shares of the time for a shutdown, each with room for what comes after it.
const ATTEMPT_SHARE = 0.8
const DELIVERY_SHARE = 0.9
const SETTLING_SHARE = 0.95
const CLOSING_SHARE = 0.04

const protocol = v.optional(v.picklist(['grpc', 'http/protobuf']))
const envSchema = v.object({ OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_PROTOCOL: protocol })

/** @throws TypeError if the environment names a protocol that it does not speak, or headers that cannot be sent. */
export function exportSpans({ endpoint, shutdownTimeoutMs, log }: SpanExportOptions): SpanExport {
  const env = parseEnv(NAME, envSchema)
  const protocol = env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ?? env.OTEL_EXPORTER_OTLP_PROTOCOL ?? 'grpc'
  const maxQueueSize = numberFromEnv('OTEL_BSP_MAX_QUEUE_SIZE') ?? MAX_QUEUE_SIZE
  const maxBatchSize = Math.min(numberFromEnv('OTEL_BSP_MAX_EXPORT_BATCH_SIZE') ?? MAX_BATCH_SIZE, maxQueueSize)
  const delayMs = Math.min(numberFromEnv('OTEL_BSP_SCHEDULE_DELAY') ?? DELAY_MS, MAX_TIMER_MS)
  const batchMs = numberFromEnv('OTEL_BSP_EXPORT_TIMEOUT') ?? BATCH_MS
  const timeoutMs = numberFromEnv('OTEL_EXPORTER_OTLP_TRACES_TIMEOUT', 'OTEL_EXPORTER_OTLP_TIMEOUT') ?? TIMEOUT_MS
  // Upstream cannot cancel an attempt: one that begins just before the shutdown must end by itself in time.
  const attemptMs = Math.min(timeoutMs, ATTEMPT_SHARE * shutdownTimeoutMs)
  const connect = protocol === 'grpc' ? connectGrpc : connectHttp
  const connection = connect(endpoint, attemptMs)

  const processed = countBy('error_type', ['', 'queue_full', 'not_encodable', 'shutdown'])
  const exported = countBy('error_type', ['', 'export_failed', 'rejected', 'shutdown'])
  let queued = 0
  let inFlight = 0

  const shown = withoutSecrets(endpoint)
  const mayWarn = atMostEvery(MINUTE_MS)
  let unsaid = { spans: 0, reason: '' }
  function drop(counter: Counts<'error_type'>, errorType: string, spans: number, reason = errorType): void {
    if (spans === 0) return
    counter.add(errorType, spans)
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

  async function attempt(request: Uint8Array): Promise<Sent> {
    const left = stopBy - performance.now()
    if (left >= attemptMs) return connection.send(request)
    const last = connect(endpoint, Math.max(1, left))
    return last.send(request).finally(last.close)
  }

  async function deliver(batch: SpanBatch): Promise<Sent> {
    const giveUpAt = performance.now() + batchMs
    await batch.ready()
    // Once, for all attempts.
    const request = batch.encode()
    for (let retry = 0; ; retry++) {
      const sent = await attempt(request)
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

  function send(batch: SpanBatch): Promise<void> {
    const { spans } = batch
    queued -= spans
    inFlight += spans
    processed.add('', spans)
    const delivery = deliver(batch)
      .catch((error): Sent => ({ error }))
      .then((sent) => {
        batch.release()
        deliveries.delete(delivery)
        if (!stopped) settle(spans, sent)
      })
    deliveries.add(delivery)
    return delivery
  }
  function settle(spans: number, sent: Sent): void {
    inFlight -= spans
    if ('error' in sent) {
      const cutShort = stopping.signal.aborted && waitBeforeRetry(sent.error, 0) !== undefined
      drop(exported, cutShort ? 'shutdown' : 'export_failed', spans, reasonOf(sent.error))
      return
    }
    const rejected = Math.min(sent.rejected, spans)
    exported.add('', spans - rejected)
    drop(exported, 'rejected', rejected)
  }

  const full: SpanBatch[] = []
  let filling = new SpanBatch()
  let timer: NodeJS.Timeout | undefined
  let isSending = false

  // Encoded together: what does it is more than a processor keeps at hand while a request is served.
  let ended: ReadableSpan[] = []

  function encode(): void {
    const spans = ended
    ended = []
    for (const span of spans) {
      try {
        filling.add(span)
      } catch {
        queued--
        drop(processed, 'not_encodable', 1)
      }
      if (filling.spans < maxBatchSize) continue
      filling.settle()
      full.push(filling)
      filling = new SpanBatch()
    }
    filling.settle()
  }

  function nextBatch(): SpanBatch {
    const batch = full.shift() ?? filling
    if (batch === filling) filling = new SpanBatch()
    return batch
  }

  // One at a time, and the others wait where they are counted.
  async function sendOne(): Promise<void> {
    timer = clear(timer)
    encode()
    if (queued === 0) return
    isSending = true
    await send(nextBatch())
    isSending = false
    schedule()
  }

  function schedule(): void {
    if (isSending || queued === 0) return
    if (full.length > 0) void runInBackground(sendOne)
    else timer ??= runInBackground(() => setTimeout(sendOne, delayMs).unref())
  }

  async function flush(): Promise<void> {
    timer = clear(timer)
    encode()
    while (queued > 0) void send(nextBatch())
    await Promise.all(deliveries)
  }

  const processor: SpanProcessor = {
    onStart() {},
    onEnd(span) {
      if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return
      if (stopping.signal.aborted) return drop(processed, 'shutdown', 1)
      if (queued + inFlight >= maxQueueSize) return drop(processed, 'queue_full', 1)
      queued++
      ended.push(span)
      if (ended.length === MAX_ENDED) encode()
      schedule()
    },
    forceFlush: () => runInBackground(flush),
    async shutdown() {
      if (stopping.signal.aborted) return
      stopBy = performance.now() + DELIVERY_SHARE * shutdownTimeoutMs
      stopping.abort()
      await within(SETTLING_SHARE * shutdownTimeoutMs, runInBackground(flush))
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
      collect: exported.collect
    },
    {
      name: 'otel_sdk_processor_span_processed_total',
      help: 'Sampled spans handed to the exporter, and with a reason those dropped before it.',
      type: 'counter',
      labelNames: ['error_type'],
      collect: processed.collect
    },
    {
      name: 'otel_sdk_processor_span_queue_size',
      help: 'Spans that wait for the exporter or are being exported.',
      type: 'gauge',
      labelNames: [],
      collect: () => [[{}, queued + inFlight]]
    }
  ]
  return {
    // The first batch reports what went wrong.
    open: () => connection.open().then(doNothing, doNothing),
    processor,
    protocol: protocol === 'grpc' ? 'OTLP/gRPC' : 'OTLP/HTTP',
    endpoint: shown,
    series
  }
}

function numberFromEnv(...names: string[]): number | undefined {
  return names.map((name) => getNumberFromEnv(name)).find((value) => value !== undefined && value > 0)
}

function doNothing(): void {}

function withoutSecrets(endpoint: string): string {
  const { origin, pathname } = new URL(endpoint)
  return `${origin}${pathname.replace(/\/$/, '')}`
}

function clear(timer: NodeJS.Timeout | undefined): undefined {
  clearTimeout(timer)
}
