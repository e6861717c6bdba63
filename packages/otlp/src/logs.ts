import type { Series } from '@fastify-observability/observation'
import { type Service, withDocs, within } from '@fastify-observability/observation/internal'
import { type AccountState, type Dropped, type Lost, openAccounts } from './accounts.ts'
import { openDelivery } from './delivery.ts'
import { destinationOf } from './destination.ts'
import type { Scope } from './encoding/batch.ts'
import { encodeRecord, type LogRecord } from './encoding/record.ts'
import { limitedTexts, shortenedAttributes, shortenedValue } from './encoding/shortened.ts'
import { type BatchVariables, limitsFrom, type RecordLimits, recordLimitsFrom, totalMsFrom } from './limits.ts'
import { openQueue } from './queue.ts'
import { resourceOf } from './resource.ts'
import type { Log } from './spans.ts'

export type { LogRecord }

/** Options of `exportLogs`. */
export interface LogExportOptions {
  /** Base URL of the collector, before what the environment says. @default OTEL_EXPORTER_OTLP_(LOGS_)ENDPOINT */
  endpoint?: string | undefined
  /** Who the records are about. */
  service: Service
  /** What makes them. */
  scope: Scope
  /** Receives warnings: of variables that are ignored, and once a minute at most of records that were lost. */
  log: Log
  /** Called for each loss, beside the series. */
  onLoss?: (reason: Dropped | Lost, records: number) => void
}

/** Batches log records, delivers them over OTLP and counts each once: as exported, or as dropped for a reason. */
export interface LogExport {
  /** Takes a record, or counts it as dropped where there is no more room. Never throws. */
  add(record: LogRecord): void
  /** Delivers what is held; resolves at the latest after so long. Never rejects. */
  flush(timeoutMs: number): Promise<void>
  /** Counts what is held as lost, when the process ends. */
  abandon(): void
  /** Delivers what is held; resolves at the latest after so long. Never rejects. */
  close(timeoutMs: number): Promise<void>
  /** What start-up should say about the choice of the protocol. */
  note: string | undefined
  /** Where to, for a reader. */
  endpoint: string
  /** What was exported, dropped and is held, for `/metrics`. */
  series: readonly Series[]
  /** What became of the items so far. */
  state(): AccountState
}

const VARIABLES: BatchVariables = {
  queueSize: 'OTEL_BLRP_MAX_QUEUE_SIZE',
  batchSize: 'OTEL_BLRP_MAX_EXPORT_BATCH_SIZE',
  delayMs: 'OTEL_BLRP_SCHEDULE_DELAY',
  totalMs: 'OTEL_BLRP_EXPORT_TIMEOUT'
}
// The specification's.
const DELAY_MS = 1_000

/** Exports log records over OTLP. */
export function exportLogs({ endpoint, service, scope, log, onLoss }: LogExportOptions): LogExport {
  const warn = (message: string): void => log.warn(withDocs('wrong-options'), message)
  const destination = destinationOf('logs', endpoint, warn)
  const resource = resourceOf(service)
  let isClosing = false
  const accounts = openAccounts(
    { series: 'log', plural: 'records', hasProcessor: true },
    (records, reason) => {
      // A line about the last lines would come after them.
      if (isClosing) return
      log.warn(
        withDocs('delivery', { endpoint: destination.shown, records_lost: records, reason }),
        'log records could not be exported'
      )
    },
    onLoss
  )
  const delivery = openDelivery(destination, accounts, totalMsFrom(VARIABLES, destination, warn))
  const limits = recordLimitsFrom(warn)
  const queue = openQueue<LogRecord>(
    {
      encode: (record) => ({ resource, scope, content: encodeRecord(limited(record, limits), Date.now()) }),
      cut: (record, characters) => ({
        ...record,
        body: shortenedValue(record.body, characters),
        attributes: shortenedAttributes(record.attributes, characters)
      })
    },
    limitsFrom(VARIABLES, DELAY_MS, warn),
    accounts,
    delivery
  )
  return {
    add: queue.add,
    flush: async (timeoutMs) => void (await within(timeoutMs, queue.flush())),
    abandon() {
      isClosing = true
      accounts.close()
    },
    close(timeoutMs) {
      isClosing = true
      return queue.close(timeoutMs)
    },
    note: destination.note,
    endpoint: destination.shown,
    series: accounts.series,
    state: accounts.state
  }
}

/** The record within its limits; how many attributes are beyond them stands in it. */
function limited(record: LogRecord, { attributes: most, characters }: RecordLimits): LogRecord {
  const names = Object.keys(record.attributes)
  const kept = names.length > most ? pick(record.attributes, names.slice(0, most)) : record.attributes
  const attributes = characters === Number.POSITIVE_INFINITY ? kept : limitedTexts(kept, characters)
  return attributes === record.attributes
    ? record
    : { ...record, attributes, droppedAttributesCount: Math.max(names.length - most, 0) }
}

function pick(attributes: LogRecord['attributes'], names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.map((name) => [name, attributes[name]]))
}
