import { inspect, stripVTControlCharacters } from 'node:util'
import { SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api'
import { hrTimeToMilliseconds } from '@opentelemetry/core'
import type { ReadableSpan, SpanProcessor } from '@opentelemetry/sdk-trace'

interface OpenTrace {
  open: number
  spans: ReadableSpan[]
  /** Spans that are too many to keep. */
  unshown: number
}

const MAX_TRACES = 1_000
const MAX_SPANS = 500

/**
 * Writes each trace as a tree, for people, when the last of its spans has ended.
 * @param onlySampled whether a trace of which no span is sampled is left out.
 */
export function printTraces(write: (text: string) => void, onlySampled = false): SpanProcessor {
  const traces = new Map<string, OpenTrace>()

  function print(traceId: string, trace: OpenTrace): void {
    traces.delete(traceId)
    if (onlySampled && !trace.spans.some(isSampled)) return
    try {
      write(render(traceId, trace))
    } catch {
      // A terminal that has gone is no reason to disturb who ends a span.
    }
  }

  return {
    onStart(span) {
      const { traceId } = span.spanContext()
      const trace = traces.get(traceId)
      if (trace) {
        trace.open++
        return
      }
      const [oldest] = traces
      // Spans that never end must not keep their traces for ever.
      if (oldest && traces.size >= MAX_TRACES) print(...oldest)
      traces.set(traceId, { open: 1, spans: [], unshown: 0 })
    },
    onEnd(span) {
      const { traceId } = span.spanContext()
      const trace = traces.get(traceId) ?? { open: 1, spans: [], unshown: 0 }
      trace.open--
      if (trace.spans.length < MAX_SPANS) trace.spans.push(span)
      else trace.unshown++
      if (trace.open === 0) print(traceId, trace)
    },
    forceFlush: async () => undefined,
    async shutdown() {
      for (const [traceId, trace] of traces) if (trace.spans.length > 0) print(traceId, trace)
    }
  }
}

function render(traceId: string, { open, spans, unshown }: OpenTrace): string {
  const ids = new Set(spans.map((span) => span.spanContext().spanId))
  const children = Map.groupBy(spans.toSorted(byStart), ({ parentSpanContext }) =>
    parentSpanContext && ids.has(parentSpanContext.spanId) ? parentSpanContext.spanId : ''
  )
  function below(parentId: string, indent: string): string[] {
    const siblings = children.get(parentId) ?? []
    return siblings.flatMap((span, index) => {
      const isLast = index === siblings.length - 1
      return [
        `${indent}${isLast ? '└─ ' : '├─ '}${line(span)}`,
        ...below(span.spanContext().spanId, `${indent}${isLast ? '   ' : '│  '}`)
      ]
    })
  }
  const missing = [...(unshown ? [`${unshown} more spans`] : []), ...(open ? [`${open} spans have not ended`] : [])]
  return [`trace ${traceId}`, ...below('', ''), ...missing, ''].join('\n')
}

function isSampled(span: ReadableSpan): boolean {
  return (span.spanContext().traceFlags & TraceFlags.SAMPLED) !== 0
}

function byStart(one: ReadableSpan, other: ReadableSpan): number {
  return hrTimeToMilliseconds(one.startTime) - hrTimeToMilliseconds(other.startTime)
}

function line({ name, kind, duration, status, attributes }: ReadableSpan): string {
  const failed = status.code === SpanStatusCode.ERROR || attributes['error.type'] !== undefined
  const details = ['http.response.status_code', 'error.type', 'db.query.text', 'url.full']
    .flatMap((key) => (attributes[key] === undefined ? [] : [`${key}=${shown(attributes[key])}`]))
    .join(' ')
  const parts = [
    SpanKind[kind],
    shown(name),
    `${hrTimeToMilliseconds(duration).toFixed(1)} ms`,
    failed ? 'ERROR' : '',
    details
  ]
  return parts.filter(Boolean).join('  ')
}

// Names and values may come from outside: what a terminal would obey is not written to it.
function shown(value: unknown): string {
  if (typeof value !== 'string') return inspect(value)
  return stripVTControlCharacters(value).replace(/\p{Cc}/gu, ' ')
}
