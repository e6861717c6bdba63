import {
  currentScope,
  heldIn,
  isOpenTelemetryDisabled,
  isRecord,
  listFromEnv,
  type Service,
  withDocs
} from '@fastify-observability/observation/internal'
import type { LogExport, LogRecord } from '@fastify-observability/otlp'
import { trace } from '@opentelemetry/api'
import manifest from '../package.json' with { type: 'json' }
import { levelWord } from './level.ts'
import type { Fields, LineKeys } from './safe.ts'
import type { Sink } from './sink.ts'

export interface OtlpLog {
  info(message: string): void
  warn(fields: object, message: string): void
  warnOfVariable(message: string): void
}

const NAME = '@fastify-observability/logging'
const MAX_EARLY = 2_048
const EXPORTERS = ['otlp', 'console', 'none']
/** @see https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const SEVERITIES: Record<string, number> = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 }

/** The place for lines sent over OTLP, if an option or the environment asks for it. */
export function otlpSinks(wanted: boolean | undefined, service: Service, keys: LineKeys, log: OtlpLog): Sink[] {
  const named = listFromEnv('OTEL_LOGS_EXPORTER', EXPORTERS, log.warnOfVariable) ?? []
  const isWanted = wanted ?? named.includes('otlp')
  return isWanted && !isOpenTelemetryDisabled(log.warnOfVariable) ? [otlpSink(service, keys, log)] : []
}

function otlpSink(service: Service, keys: LineKeys, log: OtlpLog): Sink {
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
        scope: { name: NAME, version: manifest.version },
        log,
        onLoss: (reason, count) => drop(reason === 'shutdown' ? 'closed' : reason, count)
      })
      if (records.note) log.info(`sending lines over OTLP: ${records.note}`)
      for (const record of early) records.add(record)
    } catch (error) {
      isMissing = true
      drop('no_exporter', early.length)
      log.warn(
        withDocs('missing-packages', { err: error }),
        'lines are not sent over OTLP: install @fastify-observability/otlp'
      )
    }
    early = []
  }
  const opened = open()

  return {
    get destination() {
      return records?.endpoint ?? (isMissing ? 'OTLP, once @fastify-observability/otlp is installed' : 'OTLP')
    },
    isExport: true,
    dropped,
    opened,
    get series() {
      return records?.series ?? []
    },
    write(line) {
      if (isMissing) return drop('no_exporter', 1)
      const record = recordOf(line, keys)
      if (records) records.add(record)
      else if (early.length < MAX_EARLY) early.push(record)
      else drop('queue_full', 1)
    },
    lastError: () => records?.state().lastError,
    delivered: () => records?.state().delivered ?? 0,
    held: () => early.length + heldIn(records?.series ?? []),
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

function recordOf(line: string, { messageKey, errorKey }: LineKeys): LogRecord {
  const { level, time, trace_id, span_id, service, version, environment, ...fields } = fieldsOf(line, messageKey)
  const { [messageKey]: body, [errorKey]: error, ...attributes } = fields
  const label = levelWord(level)
  const timeMs = typeof time === 'number' ? time : Date.parse(String(time))
  return {
    timeMs: Number.isFinite(timeMs) ? timeMs : Date.now(),
    severityNumber: SEVERITIES[label] ?? 0,
    severityText: label,
    body,
    attributes: { ...attributes, ...exceptionOf(error) },
    traceId: textOf(trace_id),
    spanId: textOf(span_id),
    traceFlags: flagsOf(span_id)
  }
}

/** The fields of a line; of one that a hook of the service's own has changed to something else, the line as its message. */
function fieldsOf(line: string, messageKey: string): Fields {
  try {
    const fields: unknown = JSON.parse(line)
    if (isRecord(fields)) return fields
  } catch {
    // Below.
  }
  return { [messageKey]: line.trimEnd() }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
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
