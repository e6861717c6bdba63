import { TracerProvider } from '@opentelemetry/sdk-trace'
import { exportSpans } from '../src/export/exporter.ts'

/** Something that ends spans and says what has become of them. */
export function produce(endpoint: string, shutdownTimeoutMs = 5_000) {
  const warnings: unknown[] = []
  const log = { warn: (...line: unknown[]) => void warnings.push(line) }
  const { processor, series } = exportSpans({ endpoint, shutdownTimeoutMs, log })
  const provider = new TracerProvider({ spanProcessors: [processor] })
  const read = (name: string) =>
    Object.fromEntries(
      Array.from(series.find((one) => one.name === name)?.collect() ?? []).map(([{ error_type = '' }, n]) => [
        error_type,
        n
      ])
    )
  return {
    warnings,
    tracer: provider.getTracer('test'),
    end(count: number) {
      for (let index = 0; index < count; index++) provider.getTracer('test').startSpan(`span ${index}`).end()
    },
    flush: () => provider.forceFlush(),
    close: () => provider.shutdown(),
    /** By reason, `''` for those that arrived, and without the zeros. */
    counts() {
      const { '': handedOver, ...dropped } = read('otel_sdk_processor_span_processed_total')
      const { '': exported = 0, ...lost } = read('otel_sdk_exporter_span_exported_total')
      const all = {
        exported,
        ...lost,
        shutdown: (dropped.shutdown ?? 0) + (lost.shutdown ?? 0),
        queue_full: dropped.queue_full ?? 0,
        not_encodable: dropped.not_encodable ?? 0
      }
      return Object.fromEntries(Object.entries(all).filter(([, spans]) => spans > 0))
    },
    queueSize: () => read('otel_sdk_processor_span_queue_size')[''] ?? 0
  }
}
