import type { Collector, ReceivedSpan } from '@fastify-observability/testing/collector'
import type { Ingest, SentryEvent } from '@fastify-observability/testing/ingest'
import { within } from './deadline.ts'
import type { Line, Service } from './service.ts'
import type { Exchange, Round } from './traffic.ts'

export interface Stage {
  orders: Service
  payments: Service
  collector: Collector
  ingest: Ingest
}

/** What was seen of a round, in every signal. */
export interface Story {
  /** What had to be seen. */
  checks: Check[]
  /** The spans of the order's trace. */
  trace: ReceivedSpan[]
  orderLine: Line | undefined
  failureEvent: SentryEvent | undefined
  /** The orders service's `/metrics`. */
  metrics: string
  /** The orders service's `/health/ready`. */
  readiness: string
}

interface Check {
  what: string
  seen: boolean
}

const SIGNAL_MS = 15_000

// Service, kind and the names from the root down: that is also who is whose parent.
const ORDER_TRACE: [string, ReceivedSpan['kind'], string[]][] = [
  ['orders', 'SERVER', ['POST /orders']],
  ['orders', 'INTERNAL', ['POST /orders', 'process_order']],
  ['orders', 'INTERNAL', ['POST /orders', 'process_order', 'validate']],
  ['orders', 'INTERNAL', ['POST /orders', 'process_order', 'charge']],
  ['orders', 'CLIENT', ['POST /orders', 'process_order', 'charge', 'POST']],
  ['orders', 'CLIENT', ['POST /orders', 'process_order', 'pg.query:INSERT postgres']],
  ['payments', 'SERVER', ['POST /orders', 'process_order', 'charge', 'POST', 'POST /charges']]
]
const DURATION = 'http_server_request_duration_seconds_count'
const BUSINESS: [string, Record<string, string>][] = [
  ['app_user_signups_total', { role: 'buyer' }],
  ['app_active_sessions', {}],
  ['app_order_processing_seconds_count', {}]
]

/** Waits for every signal of the round, each for a bounded time, and checks that they agree. */
export async function readStory(stage: Stage, round: Round): Promise<Story> {
  const { orders, payments, collector, ingest } = stage
  const { exchanges, order, failure } = round

  const [seen, failureEvent] = await Promise.all([
    Promise.all(exchanges.map((exchange) => witness(stage, exchange))),
    within(
      SIGNAL_MS,
      ingest.event(({ tags }) => tags?.request_id === failure.requestId)
    )
  ])
  const lineOf = (exchange: Exchange) => seen[exchanges.indexOf(exchange)]?.line
  const traceId = lineOf(order)?.trace_id
  const failureTraceId = lineOf(failure)?.trace_id ?? 'none'
  const traced = await Promise.all(ORDER_TRACE.map((expected) => traceCheck(collector, traceId, expected)))
  const chargeLine = await within(
    SIGNAL_MS,
    payments.line((line) => isCanonical(line) && line.route === '/charges' && line.trace_id === traceId)
  )
  const [metrics, charges, readiness, paymentsReadiness] = await Promise.all([
    read(`${orders.url}/metrics`),
    read(`${payments.url}/metrics`),
    read(`${orders.url}/health/ready`),
    read(`${payments.url}/health/ready`)
  ])

  return {
    checks: [
      ...seen.flatMap(({ checks }) => checks),
      ...traced,
      { what: `a canonical line of payments in trace ${traceId}`, seen: chargeLine !== undefined },
      ...requestCounts(exchanges).map(([labels, sent]) => metricCheck(metrics.text, DURATION, labels, sent)),
      metricCheck(charges.text, DURATION, requestLabels('POST', '/charges', 201), 1),
      ...BUSINESS.map(([name, labels]) => metricCheck(metrics.text, name, labels, 1)),
      readinessCheck('orders', readiness),
      readinessCheck('payments', paymentsReadiness),
      {
        what: `a Sentry event of ${title(failure)} with its request id and the trace id of its line`,
        seen: failureEvent?.contexts?.trace?.trace_id === failureTraceId
      }
    ],
    trace: collector.spans.filter((span) => span.traceId === traceId),
    orderLine: lineOf(order),
    failureEvent,
    metrics: metrics.text,
    readiness: `${readiness.status} ${readiness.text}`
  }
}

/** The canonical line and the server span of one exchange. */
async function witness({ orders, collector }: Stage, exchange: Exchange) {
  const { requestId, route, status, answered, aborted } = exchange
  const isOwn = (line: Line) => isCanonical(line) && line.request_id === requestId
  const [line, span] = await Promise.all([
    within(SIGNAL_MS, orders.line(isOwn)),
    within(
      SIGNAL_MS,
      collector.span(
        (span) => span.kind === 'SERVER' && serviceOf(span) === 'orders' && span.attributes['request.id'] === requestId
      )
    )
  ])
  const lines = orders.lines.filter(isOwn)
  const fits = line?.route === route && line.status_code === status && line.aborted === aborted
  const checks: Check[] = [
    {
      what: `${title(exchange)}: exactly one canonical line with request_id ${requestId}, ${status}, aborted ${aborted}`,
      seen: lines.length === 1 && fits
    },
    {
      what: `${title(exchange)}: a server span with the trace id of its line`,
      seen:
        span !== undefined &&
        span.traceId === line?.trace_id &&
        span.attributes['http.route'] === route &&
        span.attributes['http.response.status_code'] === answered
    }
  ]
  if (!aborted) checks.unshift({ what: `${title(exchange)}: the answer ${status}`, seen: answered === status })
  return { line, checks }
}

async function traceCheck(
  collector: Collector,
  traceId: string | undefined,
  [service, kind, names]: (typeof ORDER_TRACE)[number]
): Promise<Check> {
  const path = names.join(' > ')
  const found = within(
    SIGNAL_MS,
    collector.span(
      (span) =>
        span.traceId === traceId &&
        span.kind === kind &&
        serviceOf(span) === service &&
        lineage(span, collector.spans).join(' > ') === path
    )
  )
  return { what: `the ${kind} span ${path} of ${service}`, seen: (await found) !== undefined }
}

/** The names from the trace's root down to the span. */
function lineage(span: ReceivedSpan, spans: ReceivedSpan[]): string[] {
  if (span.parentSpanId === '') return [span.name]
  const parent = spans.find(({ traceId, spanId }) => traceId === span.traceId && spanId === span.parentSpanId)
  return [...(parent ? lineage(parent, spans) : ['(parent not received)']), span.name]
}

function requestLabels(method: string, route: string, status: number): Record<string, string> {
  return { http_request_method: method, http_route: route, http_response_status_code: String(status) }
}

/** How often each method, route and status was sent. */
function requestCounts(exchanges: Exchange[]): [Record<string, string>, number][] {
  const groups = Map.groupBy(exchanges, ({ method, route, status }) => `${method} ${route} ${status}`)
  return [...groups.values()].flatMap((group) =>
    group
      .slice(0, 1)
      .map(({ method, route, status }): [Record<string, string>, number] => [
        requestLabels(method, route, status),
        group.length
      ])
  )
}

function metricCheck(text: string, name: string, labels: Record<string, string>, expected: number): Check {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  const value = text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .filter((line) => pairs.every((pair) => line.includes(pair)))
    .reduce((sum, line) => sum + Number.parseFloat(line.replace(/^[^ {]+(\{[^}]*\})? /, '')), 0)
  return { what: `${name}{${pairs.join(',')}} ${expected}, it is ${value}`, seen: value === expected }
}

function readinessCheck(service: string, { status, text }: { status: number; text: string }): Check {
  return {
    what: `readiness of ${service}: 200 ready, it is ${status} ${text}`,
    seen: status === 200 && JSON.parse(text).status === 'ready'
  }
}

async function read(url: string): Promise<{ status: number; text: string }> {
  const response = await fetch(url, { signal: AbortSignal.timeout(SIGNAL_MS) })
  return { status: response.status, text: await response.text() }
}

function isCanonical({ msg }: Line): boolean {
  return msg === 'request completed' || msg === 'request aborted'
}

function title({ method, path }: Exchange): string {
  return `${method} ${path}`
}

export function serviceOf({ resource }: ReceivedSpan): unknown {
  return resource['service.name']
}
