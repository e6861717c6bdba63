import { createRequire } from 'node:module'
import { currentScope, isRecord, type Service } from '@fastify-observability/observation/internal'
import type { LogExport, LogRecord } from '@fastify-observability/otlp'
import { trace } from '@opentelemetry/api'
import type { Sink } from './sink.ts'

export interface OtlpLog {
  info(message: string): void
  warn(message: string, fields?: object): void
}

const NAME = '@fastify-observability/logging'
const MAX_EARLY = 2_048
const EXPORTERS = ['otlp', 'console', 'none']
/** @see https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const SEVERITIES: Record<string, number> = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 }

const require = createRequire(import.meta.url)

/** Whether a list of exporters, as OTEL_LOGS_EXPORTER is one, names OTLP. */
export function namesOtlp(list = ''): boolean {
  return exportersIn(list).includes('otlp')
}

/** The place for lines sent over OTLP, if they are wanted and can be sent. */
export function otlpSinks(wanted: boolean | undefined, service: Service, log: OtlpLog): Sink[] {
  const unknown = exportersIn(process.env.OTEL_LOGS_EXPORTER).some((name) => !EXPORTERS.includes(name))
  if (unknown) log.warn('OTEL_LOGS_EXPORTER is not a list of "otlp", "console" and "none"; the rest of it is ignored')
  const isDisabled = process.env.OTEL_SDK_DISABLED?.trim().toLowerCase() === 'true'
  return wanted && !isDisabled ? [otlpSink(service, log)] : []
}

function otlpSink(service: Service, log: OtlpLog): Sink {
  const dropped = new Map<string, number>()
  let records: LogExport | undefined
  let isMissing = false
  // Lines from before the exporter is loaded.
  let early: LogRecord[] = []

  function drop(reason: string, count: number): void {
    if (count > 0) dropped.set(reason, (dropped.get(reason) ?? 0) + count)
  }

  // Loaded only where somebody wants it.
  async function open(): Promise<void> {
    try {
      const { exportLogs } = await import('@fastify-observability/otlp')
      records = exportLogs({
        service,
        scope: { name: NAME, version: ownVersion() },
        log: { warn: (fields, message) => log.warn(message, fields) },
        onLoss: (reason, count) => drop(reason === 'shutdown' ? 'closed' : reason, count)
      })
      if (records.note) log.info(`sending lines over OTLP: ${records.note}`)
      for (const record of early) records.add(record)
    } catch (error) {
      isMissing = true
      log.warn('lines are not sent over OTLP: install @fastify-observability/otlp', { err: error })
    }
    early = []
  }
  const opened = open()

  return {
    dropped,
    opened,
    get series() {
      return records?.series ?? []
    },
    write(line) {
      if (isMissing) return
      const record = recordOf(line)
      if (records) records.add(record)
      else if (early.length < MAX_EARLY) early.push(record)
      else drop('queue_full', 1)
    },
    async flush(deadlineMs) {
      await opened
      await records?.flush(deadlineMs)
    },
    flushSync() {
      drop('closed', early.length)
      early = []
      records?.abandon()
    },
    async close(deadlineMs) {
      await opened
      await records?.close(deadlineMs)
    }
  }
}

function recordOf(line: string): LogRecord {
  const { level, time, msg, trace_id, span_id, err, service, version, environment, ...fields } = JSON.parse(line)
  return {
    timeMs: Date.parse(time),
    severityNumber: SEVERITIES[level] ?? 0,
    severityText: level,
    body: msg,
    attributes: { ...fields, ...exceptionOf(err) },
    traceId: trace_id,
    spanId: span_id,
    traceFlags: flagsOf(span_id)
  }
}

/** @see https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/ */
function exceptionOf(err: unknown): object {
  if (!isRecord(err)) return err === undefined ? {} : { err }
  const { type, message, stack, ...rest } = err
  return {
    'exception.type': type,
    'exception.message': message,
    'exception.stacktrace': stack,
    ...(Object.keys(rest).length > 0 && { err: rest })
  }
}

// A line is written while what it is about is current.
function flagsOf(spanId: unknown): number {
  const contexts = [trace.getActiveSpan()?.spanContext(), currentScope()?.observation?.spanContext]
  return contexts.find((context) => context?.spanId === spanId)?.traceFlags ?? 0
}

function exportersIn(list = ''): string[] {
  const names = list.split(',').map((name) => name.trim().toLowerCase())
  return names.filter((name) => name !== '')
}

function ownVersion(): string | undefined {
  try {
    return require('../package.json').version
  } catch {
    // A bundle has no such file.
    return undefined
  }
}
