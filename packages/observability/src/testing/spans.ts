import { type FinishedSpan, spanRecordOf } from '@fastify-observability/observation/internal'
import type { SeenSpan } from './seen.ts'

const KINDS = ['internal', 'server', 'client', 'producer', 'consumer'] as const
const STATUSES = ['unset', 'ok', 'error'] as const

/** What a test sees of a span. */
export function seenSpan(span: FinishedSpan): SeenSpan {
  const { id, parentId, kind, startMs: _startMs, isError: _isError, attributes, ...record } = spanRecordOf(span)
  const { events, links, status } = span
  return {
    ...record,
    kind: KINDS[kind] ?? 'internal',
    traceId: span.spanContext().traceId,
    spanId: id,
    parentSpanId: parentId,
    attributes: { ...attributes },
    status: STATUSES[status.code] ?? 'unset',
    statusMessage: status.message,
    events: events.map(({ name, attributes = {} }) => ({ name, attributes })),
    links: links.map(({ context: { traceId, spanId } }) => ({ traceId, spanId }))
  }
}
