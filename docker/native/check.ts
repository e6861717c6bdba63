import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { sendLoad } from '../../examples/load/load.ts'
import { configuredAttributes, linkQueries, metricNames, panelQueries, rules } from '../queries.ts'
import { type Evidence, gatherEvidence, unknownNames } from './names.ts'
import type { Stack } from './parts.ts'
import { askPrometheus, type Prometheus } from './prometheus.ts'
import { flameGraph } from './pyroscope.ts'
import { readLogs, readSpans } from './sent.ts'
import { generatorSettings, serviceGraph } from './tempo.ts'

/** What had to be seen, and whether it was. */
export interface Check {
  what: string
  seen: boolean
}

interface KeyValue {
  key: string
  value: { stringValue?: string }
}
interface Spans {
  resource: { attributes: KeyValue[] }
  scopeSpans: { spans: { name: string; attributes?: KeyValue[] }[] }[]
}
const SIGNAL_MS = 60_000
// An alert has to last for a minute before it fires.
const ALERT_MS = 180_000
const POLL_MS = 500
// At every look, twice a second.
const FAILURES = 1
const REQUESTS_PER_SECOND = 15
const ALERT = 'AvailabilityBudgetBurnsFast'
const CALLS = ['user → orders', 'orders → payments', 'orders → a database', 'orders → redis']
const DURATION = 'http_server_request_duration_seconds'
const PLACED = 'service="orders", http_route="/orders", http_response_status_code="201"'
const NAME_IN_README =
  /`((?:http_server|nodejs|process|otel_sdk|otelcol|health_check|log_lines|sentry|profiles|observability|metrics|app|service|slo)[_:][a-z0-9_:]+)/g

/** Sends traffic and sees what becomes of it. @param said is told each result when it is there */
export async function checkStack(stack: Stack, said: (check: Check) => void): Promise<Check[]> {
  const { orders, payments, jaeger, pyroscope, logFile, traceFile } = stack
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
  if (traceFile !== undefined) {
    for (const call of CALLS) {
      await see(`the service graph of the spans has ${call}`, async () => callsOf(traceFile).has(call))
    }
    await see('no service calls itself in it', async () => !callsOf(traceFile).has('orders → orders'), 0)
  }
  if (prometheus) await checkMetrics(prometheus)
  if (pyroscope !== undefined && traceFile !== undefined) await checkProfiles(pyroscope, traceFile)
  if (logFile !== undefined && traceFile !== undefined) await checkNames()

  /** As Grafana asks, by the link of the data source Tempo. */
  async function checkProfiles(url: string, traceFile: string): Promise<void> {
    for (const service of ['orders', 'payments']) {
      await see(`Pyroscope has a flame graph of ${service}`, async () => {
        const { functions } = await flameGraph(url, { service_name: service })
        return functions.length > 0
      })
    }
    await see('Pyroscope has one of orders by its route /orders', async () => {
      const { functions } = await flameGraph(url, { service_name: 'orders', http_route: '/orders' })
      return functions.length > 0
    })
    await see('Pyroscope has one of the spans that link to it, and it has less than all', async () => {
      const ids = readSpans(traceFile).map(({ attributes }) => attributes['pyroscope.profile.id'])
      const linked = ids.filter((id) => typeof id === 'string')
      const all = await flameGraph(url, { service_name: 'orders' })
      const own = await flameGraph(url, { service_name: 'orders' }, linked)
      return own.nanoseconds > 0 && own.nanoseconds < all.nanoseconds
    })
  }

  async function checkNames(): Promise<void> {
    const evidence = await seenNames(stack)
    const ofPrometheus = prometheus !== undefined
    const queries = [...panelQueries(), ...linkQueries(), ...rules()]
    for (const query of queries.filter(({ language }) => ofPrometheus || language !== 'PromQL')) {
      const unknown = unknownNames(query, evidence)
      const what = `the ${query.language} of ${query.where} names only what was sent`
      await see([what, ...unknown].join(': '), async () => unknown.length === 0, 0)
    }
    for (const { where, name } of configuredAttributes()) {
      const { spanAttributes, resourceAttributes } = evidence
      await see(`${name} of ${where} was sent`, async () => spanAttributes.has(name) || resourceAttributes.has(name), 0)
    }
  }

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

/** What has arrived by now, with the metrics that the services expose without having counted anything yet. */
export async function seenNames(stack: Stack): Promise<Evidence> {
  const { prometheus, logFile = '', traceFile = '' } = stack
  const metrics = prometheus === undefined ? new Map() : await askPrometheus(prometheus).labels()
  for (const name of await scraped(stack)) if (!metrics.has(name)) metrics.set(name, new Set())
  // A rule over three days records nothing in the first minutes.
  for (const { name } of rules().filter(({ isAlert }) => !isAlert)) if (!metrics.has(name)) metrics.set(name, new Set())
  // A label whose value is empty is none to Prometheus, and the queries ask for it all the same.
  for (const [name, label] of await emptyLabels(stack)) metrics.get(name)?.add(label)
  return gatherEvidence(readSpans(traceFile), readLogs(logFile), metrics)
}

/** Who calls whom, as `orders → payments`. Tempo names a database by its host, which differs from machine to machine. */
export function callsOf(traceFile: string): Set<string> {
  const edges = serviceGraph(readSpans(traceFile), generatorSettings().peerAttributes)
  return new Set(
    edges.map(
      ({ client, server, connectionType }) => `${client} → ${connectionType === 'database' ? 'a database' : server}`
    )
  )
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

function value(attributes: KeyValue[], wanted: string): string {
  return attributes.find(({ key }) => key === wanted)?.value.stringValue ?? ''
}

/** The labels that the services expose with an empty value, with their metric. */
async function emptyLabels({ orders, payments }: Stack): Promise<[string, string][]> {
  const texts = await Promise.all([orders, payments].map(async ({ url }) => (await fetch(`${url}/metrics`)).text()))
  return [...texts.join('\n').matchAll(/^(\w+)\{([^}]*)\}/gm)].flatMap(([, name = '', labels = '']) =>
    [...labels.matchAll(/(\w+)=""/g)].map(([, label = '']): [string, string] => [name, label])
  )
}

/** Every name that the services expose, those without a sample yet too. */
async function scraped({ orders, payments }: Stack): Promise<string[]> {
  const texts = await Promise.all([orders, payments].map(async ({ url }) => (await fetch(`${url}/metrics`)).text()))
  return [...texts.join('\n').matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`, name] : [name]
  )
}
