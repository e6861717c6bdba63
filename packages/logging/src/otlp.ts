import { createRequire } from 'node:module'
import { atMostEvery, type Service, within } from '@fastify-observability/observation/internal'
import { ROOT_CONTEXT, type SeverityNumber, TraceFlags, trace } from '@opentelemetry/api'
import type { LogRecordExporter } from '@opentelemetry/sdk-logs'
import type { Sink } from './sink.ts'

// Loaded only where somebody wants it, and the same way from createLogger, which cannot wait.
const require = createRequire(import.meta.url)
const MAX_QUEUE = 2048
const MINUTE_MS = 60_000
/** @see https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const SEVERITIES: Record<string, SeverityNumber> = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 }

/** Sends lines as OTLP log records over gRPC, in batches, through OpenTelemetry's own SDK. */
export function otlpSink({ name, version, environment }: Service, warn: (message: string) => void): Sink {
  const { BatchLogRecordProcessor, LoggerProvider }: typeof import('@opentelemetry/sdk-logs') =
    require('@opentelemetry/sdk-logs')
  const { OTLPLogExporter }: typeof import('@opentelemetry/exporter-logs-otlp-grpc') =
    require('@opentelemetry/exporter-logs-otlp-grpc')
  const { resourceFromAttributes }: typeof import('@opentelemetry/resources') = require('@opentelemetry/resources')

  const dropped = new Map<string, number>()
  const mayWarn = atMostEvery(MINUTE_MS)
  let pending = 0
  let closed = false
  const drop = (reason: string, count: number): void => void dropped.set(reason, (dropped.get(reason) ?? 0) + count)

  const exporter: LogRecordExporter = new OTLPLogExporter()
  const counting: LogRecordExporter = {
    export(records, done) {
      exporter.export(records, (result) => {
        // What has not come by the end has been counted as lost.
        if (closed) return done(result)
        pending -= records.length
        if (result.code !== 0) {
          drop('export_failed', records.length)
          if (mayWarn()) warn(`log records could not be exported over OTLP: ${result.error?.message}`)
        }
        done(result)
      })
    },
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown()
  }
  const provider = new LoggerProvider({
    resource: resourceFromAttributes({
      'service.name': name,
      'service.version': version,
      'deployment.environment.name': environment
    }),
    processors: [new BatchLogRecordProcessor({ exporter: counting, maxQueueSize: MAX_QUEUE })]
  })
  const logger = provider.getLogger('@fastify-observability/logging')

  return {
    dropped,
    write(line) {
      if (closed) return drop('closed', 1)
      if (pending >= MAX_QUEUE) return drop('queue_full', 1)
      pending++
      const { level, time, msg, trace_id, span_id, service, version, environment, ...attributes } = JSON.parse(line)
      logger.emit({
        timestamp: new Date(time),
        severityNumber: SEVERITIES[level] ?? 0,
        severityText: level,
        body: msg,
        attributes,
        ...(trace_id !== undefined && {
          context: trace.setSpanContext(ROOT_CONTEXT, {
            traceId: trace_id,
            spanId: span_id,
            traceFlags: TraceFlags.SAMPLED
          })
        })
      })
    },
    async flush(deadlineMs) {
      await within(deadlineMs, provider.forceFlush()).catch(() => undefined)
    },
    flushSync() {},
    async close(deadlineMs) {
      await within(deadlineMs, provider.shutdown()).catch(() => undefined)
      closed = true
      if (pending > 0) drop('closed', pending)
      pending = 0
    }
  }
}
