export { withEnv } from '@fastify-observability/testing/environment'

import { type Collector, type ReceivedSpan, startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import tracing, { type TracingOptions } from '../src/index.ts'

// Spans leave at once instead of after five seconds.
process.env.OTEL_BSP_SCHEDULE_DELAY = '10'
export const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
export const TRACEPARENT = `00-${TRACE_ID}-b7ad6b7169203331-01`
export const service = { name: 'shop', version: '1.2.3', environment: 'test' }

/** An app whose spans go to a collector. */
export async function traced(
  t: Test,
  declare: (app: FastifyInstance) => void = () => undefined,
  options: TracingOptions = {}
): Promise<{ app: FastifyInstance; collector: Collector }> {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const app = Fastify()
  await app.register(tracing, { service, endpoint: collector.url, shutdownTimeoutMs: PATIENCE_MS, ...options })
  declare(app)
  t.teardown(() => app.close())
  return { app, collector }
}

/** The spans of an app, which closing it has flushed. */
export async function spansOf(app: FastifyInstance, { spans }: Collector): Promise<ReceivedSpan[]> {
  await app.close()
  return spans
}

export function named(spans: ReceivedSpan[], name: string): ReceivedSpan {
  const span = spans.find((span) => span.name === name)
  if (!span) throw new Error(`no span ${name} among ${spans.map(({ name }) => name)}`)
  return span
}
