import type { Collector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { TracerProvider } from '@opentelemetry/sdk-trace'
import { exportLogs, exportPoints, exportSpans } from '../src/index.ts'

/** Something that makes items of one signal and knows what has become of them. */
export interface Producer {
  warnings: unknown[]
  end(count: number, padding?: string): void
  flush(): Promise<unknown>
  close(): Promise<unknown>
  /** By reason, `exported` for those that arrived, and without the zeros. */
  counts(): Record<string, number>
  queueSize(): number
  /** The items that the collector keeps. */
  received(collector: Collector): unknown[]
}

type AllSeries = ReturnType<typeof exportLogs>['series']

function readings(series: AllSeries, kind: string) {
  const read = (name: string) =>
    Object.fromEntries(
      Array.from(series.find((one) => one.name === name)?.collect() ?? []).map(([{ error_type = '' }, n]) => [
        error_type,
        n
      ])
    )
  return {
    counts() {
      const { '': handedOver, ...dropped } = read(`otel_sdk_processor_${kind}_processed_total`)
      const { '': exported = 0, ...lost } = read(`otel_sdk_exporter_${kind}_exported_total`)
      const reasons = new Set([...Object.keys(dropped), ...Object.keys(lost)])
      const sums = Array.from(reasons, (reason) => [reason, (dropped[reason] ?? 0) + (lost[reason] ?? 0)] as const)
      return Object.fromEntries([['exported', exported] as const, ...sums].filter(([, items]) => items > 0))
    },
    queueSize: () => read(`otel_sdk_processor_${kind}_queue_size`)[''] ?? 0
  }
}

export function produce(endpoint: string, shutdownTimeoutMs = PATIENCE_MS) {
  const warnings: unknown[] = []
  const log = { warn: (...line: unknown[]) => void warnings.push(line) }
  const { processor, series } = exportSpans({ endpoint, shutdownTimeoutMs, log })
  const provider = new TracerProvider({ spanProcessors: [processor] })
  const tracer = provider.getTracer('test')
  return {
    ...readings(series, 'span'),
    warnings,
    tracer,
    end(count: number, padding?: string) {
      const attributes = padding === undefined ? {} : { padding }
      for (let index = 0; index < count; index++) tracer.startSpan(`span ${index}`, { attributes }).end()
    },
    flush: () => provider.forceFlush(),
    close: () => provider.shutdown(),
    received: ({ spans }: Collector) => spans
  }
}

export function produceRecords(endpoint: string, closeMs = PATIENCE_MS): Producer {
  const warnings: unknown[] = []
  const log = { warn: (...line: unknown[]) => void warnings.push(line) }
  const service = { name: 'shop', version: '1.2.3', environment: 'test' }
  const records = exportLogs({ endpoint, service, scope: { name: 'test' }, log })
  return {
    ...readings(records.series, 'log'),
    warnings,
    end(count, padding) {
      const record = { timeMs: Date.now(), severityNumber: 9, severityText: 'info', attributes: { padding } }
      for (let index = 0; index < count; index++) records.add({ ...record, body: `record ${index}` })
    },
    flush: () => records.flush(PATIENCE_MS),
    close: () => records.close(closeMs),
    received: ({ logs }) => logs
  }
}

export function producePoints(endpoint: string, closeMs = PATIENCE_MS): Producer {
  const warnings: unknown[] = []
  const log = { warn: (...line: unknown[]) => void warnings.push(line) }
  const service = { name: 'shop', version: '1.2.3', environment: 'test' }
  let attributes: object[] = []
  const points = exportPoints({
    endpoint,
    service,
    scope: { name: 'test' },
    log,
    collect() {
      const made = attributes.map((attributes, value) => ({ attributes: { ...attributes }, timeMs: Date.now(), value }))
      attributes = []
      return [{ name: 'test', type: 'gauge', points: made }]
    }
  })
  return {
    ...readings(points.series, 'metric_data_point'),
    warnings,
    end(count, padding) {
      for (let index = 0; index < count; index++) attributes.push({ padding })
    },
    flush: () => points.flush(PATIENCE_MS),
    close: () => points.close(closeMs),
    received: ({ points }) => points
  }
}

export const SIGNALS: [
  name: 'spans' | 'records' | 'points',
  start: (endpoint: string, closeMs?: number) => Producer
][] = [
  ['spans', produce],
  ['records', produceRecords],
  ['points', producePoints]
]
