import type { Series } from '@fastify-observability/observation'
import {
  atMostEvery,
  clearInterval,
  runInBackground,
  type Service,
  setInterval,
  withDocs,
  within
} from '@fastify-observability/observation/internal'
import { type AccountState, openAccounts } from './accounts.ts'
import { closeInTime, openDelivery } from './delivery.ts'
import { destinationOf } from './destination.ts'
import { Batch, type Scope } from './encoding/batch.ts'
import { encodeMetric, type Metric, type Temporality } from './encoding/metric.ts'
import { choiceOf, numberFrom } from './environment.ts'
import { MAX_TIMER_MS } from './limits.ts'
import { MAX_BATCH_BYTES } from './queue.ts'
import { resourceOf } from './resource.ts'
import type { Log } from './spans.ts'

/** Options of `exportPoints`. */
export interface PointExportOptions {
  /** Base URL of the collector, before what the environment says. @default OTEL_EXPORTER_OTLP_(METRICS_)ENDPOINT */
  endpoint?: string | undefined
  /** Who the points are about. */
  service: Service
  /** What makes them. */
  scope: Scope
  /** Receives warnings: of variables that are ignored, and once a minute at most of points that were lost. */
  log: Log
  /** All values now. Asked every OTEL_METRIC_EXPORT_INTERVAL, by a flush, and at the end. */
  collect(temporality: TemporalityPreference): Metric[] | Promise<Metric[]>
}

/** @see https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration */
export type TemporalityPreference = Temporality | 'lowmemory'

/** Pushes metric points over OTLP and counts each once: as exported, or as lost for a reason. */
export interface PointExport {
  /** Delivers the values of now; resolves at the latest after so long. Never rejects. */
  flush(timeoutMs: number): Promise<void>
  /** Delivers the last values; resolves at the latest after so long. Nothing keeps the process then. Never rejects. */
  close(timeoutMs: number): Promise<void>
  /** For logs: how and where to. */
  protocol: 'OTLP/gRPC' | 'OTLP/HTTP'
  /** Where to, without secrets. */
  endpoint: string
  /** What start-up should say about the choice of the protocol. */
  note: string | undefined
  /** What was exported and lost, for `/metrics`. */
  series: readonly Series[]
  /** What became of the items so far. */
  state(): AccountState
}

const MINUTE_MS = 60_000
// The specification's.
const INTERVAL_MS = 60_000
const TIMEOUT_MS = 30_000

/** Exports metric points over OTLP. */
export function exportPoints({ endpoint, service, scope, log, collect }: PointExportOptions): PointExport {
  const warn = (message: string): void => log.warn(withDocs('wrong-options'), message)
  const destination = destinationOf('metrics', endpoint, warn)
  const temporality = choiceOf(
    ['OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE'],
    ['cumulative', 'delta', 'lowmemory'],
    warn
  )
  const filter = choiceOf(['OTEL_METRICS_EXEMPLAR_FILTER'], ['trace_based', 'always_off'], warn)
  // The buckets are those of `/metrics`.
  choiceOf(['OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION'], ['explicit_bucket_histogram'], warn)
  const intervalMs = Math.min(numberFrom(['OTEL_METRIC_EXPORT_INTERVAL'], 1, warn) ?? INTERVAL_MS, MAX_TIMER_MS)
  const totalMs = numberFrom(['OTEL_METRIC_EXPORT_TIMEOUT'], 1, warn) ?? TIMEOUT_MS
  const resource = resourceOf(service)
  const accounts = openAccounts(
    { series: 'metric_data_point', plural: 'points', hasProcessor: false },
    (points, reason) =>
      log.warn(
        withDocs('delivery', { endpoint: destination.shown, points_lost: points, reason }),
        'metric points could not be exported'
      )
  )
  const delivery = openDelivery(destination, accounts, totalMs)
  const mayWarn = atMostEvery(MINUTE_MS)
  let pushing: Promise<void> | undefined
  let isClosed = false

  async function collected(): Promise<Metric[]> {
    try {
      return await collect(temporality ?? 'cumulative')
    } catch (err) {
      if (mayWarn()) log.warn(withDocs('functions-that-fail', { err }), 'metrics could not be collected')
      return []
    }
  }

  async function pushAll(): Promise<void> {
    for (const batch of batchesOf(await collected())) {
      accounts.take(batch.items)
      accounts.handOver(batch.items)
      await delivery.deliver(batch)
    }
  }

  function* batchesOf(metrics: Metric[]): Generator<Batch> {
    let batch = new Batch()
    for (const metric of metrics) {
      for (const { content, points } of encodeMetric(metric, filter !== 'always_off')) {
        if (batch.bytes + content.length > MAX_BATCH_BYTES && batch.entries > 0) {
          yield batch
          batch = new Batch()
        }
        batch.add(resource, scope, content, points)
      }
    }
    if (batch.entries > 0) yield batch
  }

  // One at a time: values that are collected later are as good.
  function push(): Promise<void> {
    pushing ??= runInBackground(pushAll).finally(() => {
      pushing = undefined
    })
    return pushing
  }

  /** What is under way may have been collected before the values of now were known. */
  function pushNow(): Promise<void> {
    return pushing ? pushing.then(push) : push()
  }

  const timer = runInBackground(() => setInterval(() => void push(), intervalMs).unref())

  return {
    async flush(timeoutMs) {
      if (!isClosed) await within(timeoutMs, pushNow())
    },
    async close(timeoutMs) {
      if (isClosed) return
      isClosed = true
      clearInterval(timer)
      await closeInTime(delivery, accounts, timeoutMs, pushNow)
    },
    protocol: destination.protocol === 'grpc' ? 'OTLP/gRPC' : 'OTLP/HTTP',
    endpoint: destination.shown,
    note: destination.note,
    series: accounts.series,
    state: accounts.state
  }
}
