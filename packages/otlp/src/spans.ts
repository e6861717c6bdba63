import type { Series } from '@fastify-observability/observation'
import { withDocs } from '@fastify-observability/observation/internal'
import { type Context, type Span, TraceFlags } from '@opentelemetry/api'
import { type AccountState, openAccounts } from './accounts.ts'
import { openDelivery } from './delivery.ts'
import { destinationOf } from './destination.ts'
import { shortened, shortenedAttributes } from './encoding/shortened.ts'
import { type EncodableSpan, encodeSpan } from './encoding/span.ts'
import { type BatchVariables, limitsFrom, totalMsFrom } from './limits.ts'
import { type Encoder, openQueue } from './queue.ts'

/** Options of `exportSpans`. */
export interface SpanExportOptions {
  /** Base URL of the collector, before what the environment says. @default OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT */
  endpoint?: string | undefined
  /** How long a shutdown may take to deliver what is queued. */
  shutdownTimeoutMs: number
  /** Receives warnings: of variables that are ignored, and once a minute at most of spans that were lost. */
  log: Log
}

export interface Log {
  warn(fields: object, message: string): void
}

/** A span processor, for the SDK's 2.x and its 3.x. */
interface SpanQueue {
  onStart(span: Span, context: Context): void
  onEnd(span: EncodableSpan): void
  forceFlush(): Promise<void>
  /** Resolves within `shutdownTimeoutMs`, whatever the collector does. */
  shutdown(): Promise<void>
}

/** Batches spans, delivers them over OTLP and counts each once: as exported, or as dropped for a reason. */
export interface SpanExport {
  /** Loads what the first batch needs. Never rejects. */
  open(): Promise<void>
  /** To be given to a tracer provider. Takes sampled spans only. */
  processor: SpanQueue
  /** Counts spans that were to be exported and could not be held until then. */
  lose(spans: number): void
  /** For logs: how and where to. */
  protocol: 'OTLP/gRPC' | 'OTLP/HTTP'
  /** Where to, without secrets. */
  endpoint: string
  /** What start-up should say about the choice of the protocol. */
  note: string | undefined
  /** What was exported, dropped and is held, for `/metrics`. */
  series: readonly Series[]
  /** What became of the items so far. */
  state(): AccountState
}

const VARIABLES: BatchVariables = {
  queueSize: 'OTEL_BSP_MAX_QUEUE_SIZE',
  batchSize: 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE',
  delayMs: 'OTEL_BSP_SCHEDULE_DELAY',
  totalMs: 'OTEL_BSP_EXPORT_TIMEOUT'
}
// The specification's.
const DELAY_MS = 5_000

const encoder: Encoder<EncodableSpan> = {
  encode: (span) => ({ resource: span.resource, scope: span.instrumentationScope, content: encodeSpan(span) }),
  cut: (span, characters) => ({
    name: shortened(span.name, characters),
    kind: span.kind,
    startTime: span.startTime,
    endTime: span.endTime,
    parentSpanContext: span.parentSpanContext,
    attributes: shortenedAttributes(span.attributes, characters),
    events: [],
    links: [],
    status: { code: span.status.code, message: shortened(span.status.message ?? '', characters) },
    droppedAttributesCount: span.droppedAttributesCount,
    droppedEventsCount: span.droppedEventsCount + span.events.length,
    droppedLinksCount: span.droppedLinksCount + span.links.length,
    resource: span.resource,
    instrumentationScope: span.instrumentationScope,
    spanContext: () => span.spanContext()
  })
}

/** Exports spans over OTLP. */
export function exportSpans({ endpoint, shutdownTimeoutMs, log }: SpanExportOptions): SpanExport {
  const warn = (message: string): void => log.warn(withDocs('wrong-options'), `tracing: ${message}`)
  const destination = destinationOf('traces', endpoint, warn)
  const { shown } = destination
  const accounts = openAccounts({ series: 'span', plural: 'spans', hasProcessor: true }, (spans, reason) =>
    log.warn(
      withDocs('delivery', { endpoint: shown, spans_lost: spans, reason }),
      'tracing: spans could not be exported'
    )
  )
  const delivery = openDelivery(destination, accounts, totalMsFrom(VARIABLES, destination, warn))
  const queue = openQueue(encoder, limitsFrom(VARIABLES, DELAY_MS, warn), accounts, delivery)
  return {
    open: delivery.open,
    processor: {
      onStart() {},
      onEnd(span) {
        if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) !== 0) queue.add(span)
      },
      forceFlush: queue.flush,
      shutdown: () => queue.close(shutdownTimeoutMs)
    },
    lose: (spans) => accounts.drop('held_full', spans),
    protocol: destination.protocol === 'grpc' ? 'OTLP/gRPC' : 'OTLP/HTTP',
    endpoint: shown,
    note: destination.note,
    series: accounts.series,
    state: accounts.state
  }
}
