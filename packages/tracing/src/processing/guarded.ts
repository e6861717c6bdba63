import { attempt, within } from '@fastify-observability/observation/internal'
import type { SpanProcessor } from '@opentelemetry/sdk-trace'

/** A processor of the user's: what it throws or rejects with is reported, and its shutdown is waited for at most so long. */
export function guarded(
  processor: SpanProcessor,
  shutdownTimeoutMs: number,
  report: (error: unknown) => void
): SpanProcessor {
  async function finish(work: () => Promise<void>): Promise<void> {
    try {
      await within(shutdownTimeoutMs, work())
    } catch (error) {
      report(error)
    }
  }
  return {
    onStart: (span, context) => attempt(() => processor.onStart(span, context), report),
    onEnding: (span) => attempt(() => processor.onEnding?.(span), report),
    onEnd: (span) => attempt(() => processor.onEnd(span), report),
    forceFlush: () => finish(() => processor.forceFlush()),
    shutdown: () => finish(() => processor.shutdown())
  }
}
