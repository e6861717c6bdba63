import type { ReceivedSpan } from '@fastify-observability/testing/collector'
import type { Line } from './service.ts'
import { type Stage, type Story, serviceOf } from './story.ts'
import type { Round } from './traffic.ts'

const WIDTH = 100
const SERIES = /^(http_server_request_duration_seconds_count|app_(?!.*_(bucket|sum)\b)\w+)[{ ]/
const PROBE = /http_route="\/(health|metrics)/

/** The round as the signals tell it, at most 100 columns wide. */
export function report({ orders, payments, collector, ingest }: Stage, round: Round, story: Story): string {
  const { order, failure } = round
  const traceId = story.orderLine?.trace_id ?? 'not seen'
  const lines = [...orders.lines, ...payments.lines]
    .filter((line) => line.request_id !== undefined)
    .sort((one, other) => one.time.localeCompare(other.time))
  const event = story.failureEvent
  const exception = event?.exception?.values.at(-1)

  return [
    heading('Logs', 'standard output of the two services'),
    `  ▌ marks one order, answered with x-request-id ${order.requestId}`,
    ...lines.map((line) => logLine(line, line.trace_id === traceId)),
    '',
    '  The last line of that order as it was written:',
    ...wrap(JSON.stringify(story.orderLine) ?? 'not seen', '  '),

    heading('Trace', `sent over OTLP to ${collector.url}`),
    `  trace_id ${traceId}`,
    ...tree(story.trace),

    heading('Metrics', `${orders.url}/metrics`),
    ...story.metrics
      .split('\n')
      .filter((line) => SERIES.test(line) && !PROBE.test(line))
      .flatMap((line) => wrap(line, '  ')),

    heading('Health', `${orders.url}/health/ready`),
    ...wrap(story.readiness, '  '),

    heading('Sentry', `sent to ${ingest.dsn}`),
    `  ${exception?.type}: ${exception?.value}   (${event?.transaction})`,
    `  x-request-id  ${failure.requestId}  (of the answer)`,
    `  request_id    ${event?.tags?.request_id}`,
    `  trace_id      ${event?.contexts?.trace?.trace_id}`,

    '',
    `${story.checks.filter(({ seen }) => seen).length} of ${story.checks.length} checks hold: the ids, routes, states and counts of every signal.`
  ].join('\n')
}

/** A log line in one row, with the end of its request id: the beginning is the time. */
export function logLine(line: Line, marked = false): string {
  const { time, service, level, request_id = '', msg, method, path, status_code, duration_ms } = line
  const took = duration_ms === undefined ? '' : `  ${duration_ms.toFixed(1)} ms`
  const outcome = status_code === undefined ? '' : `  ${status_code}${took}`
  const request = method === undefined ? '' : `${method} ${path}`
  const row = `${marked ? '▌' : ' '} ${time.slice(11, 23)} ${service.padEnd(8)} ${level.padEnd(5)} ${request_id.slice(-8).padEnd(8)} ${msg.padEnd(17)} ${request}`
  return clip(row, WIDTH - outcome.length) + outcome
}

function heading(name: string, where: string): string {
  return `\n── ${name} ${'─'.repeat(10 - name.length)} ${where}`
}

/** The spans below a parent, each with its own below it. */
function tree(spans: ReceivedSpan[], parent = '', indent = '  '): string[] {
  const children = spans
    .filter(({ parentSpanId }) => parentSpanId === parent)
    .sort((one, other) => one.startMs - other.startMs)
  return children.flatMap((span, index) => {
    const last = index === children.length - 1
    const [branch, below] = parent === '' ? ['', ''] : last ? ['└─ ', '   '] : ['├─ ', '│  ']
    const name = `${indent}${branch}${span.name}`.padEnd(44)
    const row = `${name} ${String(serviceOf(span)).padEnd(9)} ${span.kind.padEnd(8)} ${span.durationMs.toFixed(1).padStart(8)} ms`
    return [row, ...tree(spans, span.spanId, indent + below)]
  })
}

function clip(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`
}

/** Breaks at commas, where a JSON line and a series can be broken and still be read. */
function wrap(text: string, indent: string): string[] {
  const rows: string[] = []
  let row = indent
  for (const part of text.split(/(?<=,)/)) {
    if (row.length + part.length > WIDTH && row !== indent) {
      rows.push(row)
      row = `${indent}  `
    }
    row += part
  }
  return [...rows, row]
}
