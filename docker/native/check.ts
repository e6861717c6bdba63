import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { sendLoad } from '../../examples/load/load.ts'
import { metricNames, panelQueries, rules } from '../queries.ts'
import type { Stack } from './parts.ts'
import { askPrometheus, type Prometheus } from './prometheus.ts'

/** What had to be seen, and whether it was. */
export interface Check {
  what: string
  seen: boolean
}

interface LogRecord {
  service: string
  traceId: string
  body: string
}
interface KeyValue {
  key: string
  value: { stringValue?: string }
}
interface Spans {
  resource: { attributes: KeyValue[] }
  scopeSpans: { spans: { name: string; attributes?: KeyValue[] }[] }[]
}
interface Logs {
  resourceLogs: {
    resource: { attributes: KeyValue[] }
    scopeLogs: { logRecords: { traceId?: string; body?: { stringValue?: string } }[] }[]
  }[]
}

const SIGNAL_MS = 60_000
// An alert has to last for a minute before it fires.
const ALERT_MS = 180_000
const POLL_MS = 500
// At every look, twice a second.
const FAILURES = 1
const REQUESTS_PER_SECOND = 15
const ALERT = 'AvailabilityBudgetBurnsFast'
const DURATION = 'http_server_request_duration_seconds'
const PLACED = 'service="orders", http_route="/orders", http_response_status_code="201"'
const NAME_IN_README =
  /`((?:http_server|nodejs|process|otel_sdk|otelcol|health_check|log_lines|sentry|observability|metrics|app|service|slo)[_:][a-z0-9_:]+)/g

/** Sends traffic and sees what becomes of it. @param said is told each result when it is there */
export async function checkStack(stack: Stack, said: (check: Check) => void): Promise<Check[]> {
  const { orders, payments, jaeger, logFile } = stack
  const checks: Check[] = []
  const prometheus = stack.prometheus === undefined ? undefined : askPrometheus(stack.prometheus)

  async function see(what: string, look: () => Promise<boolean>, ms = SIGNAL_MS): Promise<void> {
    const until = performance.now() + ms
    let reason = ''
    let seen = false
    while (!seen) {
      try {
        seen = await look()
        reason = ''
      } catch (error) {
        reason = ` (${error instanceof Error ? error.message : error})`
      }
      if (seen || performance.now() > until) break
      await wait(POLL_MS)
    }
    const check = { what: what + reason, seen }
    checks.push(check)
    said(check)
  }

  for (const { name, url } of [orders, payments]) {
    await see(
      `${name} is ready`,
      async () => JSON.parse(await (await fetch(`${url}/health/ready`)).text()).status === 'ready'
    )
  }

  const traceId = await placeOrder(stack)
  await see(`an order is placed, in trace ${traceId}`, async () => traceId !== undefined)
  if (jaeger !== undefined) {
    await see('Jaeger has its trace: orders, payments and the database', async () => {
      const { services, databases } = await readTrace(`${jaeger}/api/v3/traces/${traceId}`)
      return services.has('orders') && services.has('payments') && databases.has('postgresql')
    })
  }
  if (logFile !== undefined) {
    for (const service of ['orders', 'payments']) {
      await see(`the collector has the line "request completed" of ${service}, with that trace id`, async () =>
        readLogs(logFile).some(
          (log) => log.service === service && log.traceId === traceId && log.body === 'request completed'
        )
      )
    }
  }
  if (prometheus) await checkMetrics(prometheus)

  async function checkMetrics(prometheus: Prometheus): Promise<void> {
    await see('Prometheus has counted the order', async () => {
      const [sample] = await prometheus.query(`sum(${DURATION}_count{${PLACED}})`)
      return sample?.value === 1
    })
    await see('an exemplar of it carries that trace id', async () => {
      const traceIds = await prometheus.exemplars(`${DURATION}_bucket{${PLACED}}`)
      return traceId !== undefined && traceIds.includes(traceId)
    })
    await see(`${ALERT} is silent`, async () => (await prometheus.alerts()).every(({ name }) => name !== ALERT))

    const done = new AbortController()
    const load = sendLoad(REQUESTS_PER_SECOND, { url: orders.url, signal: done.signal }, () => undefined)
    await see(
      `${ALERT} fires for orders while one request in ten fails`,
      async () => {
        // All through the wait: a counter that jumps once, at its first scrape, has no rate.
        for (let failure = 0; failure < FAILURES; failure++) await (await fetch(`${orders.url}/boom`)).arrayBuffer()
        const alerts = await prometheus.alerts()
        return alerts.some(({ name, service, state }) => name === ALERT && service === 'orders' && state === 'firing')
      },
      ALERT_MS
    )
    for (const { where, expr } of panelQueries().filter(({ language }) => language === 'PromQL')) {
      await see(`the panel ${where} shows data`, async () => hasData(await prometheus.query(expr)))
    }
    for (const { name, expr } of rules().filter(({ isAlert }) => !isAlert)) {
      await see(`the rule ${name} gives data`, async () => hasData(await prometheus.query(expr)))
    }
    for (const { name, expr } of rules().filter(({ isAlert }) => isAlert)) {
      await see(`the alert ${name} can be asked for`, async () => (await prometheus.query(expr)) !== undefined)
    }
    done.abort()
    await load

    const known = new Set([...(await prometheus.names()), ...(await scraped(stack))])
    const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
    const named = [
      ...[...panelQueries(), ...rules()]
        .filter(({ language }) => language === 'PromQL')
        .flatMap(({ expr }) => metricNames(expr)),
      ...[...readme.matchAll(NAME_IN_README)].map(([, name = '']) => name)
    ]
    for (const name of new Set(named)) {
      await see(`${name} is in a real scrape`, async () => known.has(name), 0)
    }
  }

  return checks
}

function hasData(samples: { value: number }[]): boolean {
  return samples.some(({ value }) => !Number.isNaN(value))
}

/** Resolves with the order's trace id, as its log line has it. */
async function placeOrder({ orders }: Stack): Promise<string | undefined> {
  const response = await fetch(`${orders.url}/orders`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ customer: 'ada', amount: 4200 })
  })
  await response.arrayBuffer()
  if (response.status !== 201) return undefined
  const requestId = response.headers.get('x-request-id')
  const line = await orders.line(({ request_id, msg }) => request_id === requestId && msg === 'request completed')
  return line.trace_id
}

async function readTrace(url: string): Promise<{ services: Set<string>; databases: Set<string> }> {
  const response = await fetch(url)
  const { result }: { result?: { resourceSpans: Spans[] } } = JSON.parse(await response.text())
  const resources = result?.resourceSpans ?? []
  const spans = resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans))
  return {
    services: new Set(resources.map(({ resource }) => value(resource.attributes, 'service.name'))),
    databases: new Set(
      spans.flatMap(({ attributes = [] }) => [value(attributes, 'db.system.name'), value(attributes, 'db.system')])
    )
  }
}

function readLogs(file: string): LogRecord[] {
  const batches = readFileSync(file, 'utf8').split('\n').slice(0, -1)
  return batches.flatMap((batch) => {
    const { resourceLogs }: Logs = JSON.parse(batch)
    return resourceLogs.flatMap(({ resource, scopeLogs }) =>
      scopeLogs
        .flatMap(({ logRecords }) => logRecords)
        .map(({ traceId = '', body }) => ({
          service: value(resource.attributes, 'service.name'),
          traceId,
          body: body?.stringValue ?? ''
        }))
    )
  })
}

function value(attributes: KeyValue[], wanted: string): string {
  return attributes.find(({ key }) => key === wanted)?.value.stringValue ?? ''
}

/** Every name that the services expose, those without a sample yet too. */
async function scraped({ orders, payments }: Stack): Promise<string[]> {
  const texts = await Promise.all([orders, payments].map(async ({ url }) => (await fetch(`${url}/metrics`)).text()))
  return [...texts.join('\n').matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`, name] : [name]
  )
}
