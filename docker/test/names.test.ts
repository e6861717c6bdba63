import { startIngest } from '@fastify-observability/testing/ingest'
import { freePorts } from '@fastify-observability/testing/ports'
import tap, { test } from 'tap'
import { sendOneOfEach } from '../../examples/load/load.ts'
import { callsOf, seenNames } from '../native/check.ts'
import { type Evidence, gatherEvidence, unknownNames } from '../native/names.ts'
import { PORT_NAMES, type Ports, type Stack, startStack } from '../native/parts.ts'
import { serviceGraph } from '../native/tempo.ts'
import { linkQueries, panelQueries, type Query, rules } from '../queries.ts'

const { TEST_COLLECTOR, TEST_PROMETHEUS_3, TEST_PYROSCOPE } = process.env
const skip =
  !(TEST_COLLECTOR && TEST_PROMETHEUS_3 && TEST_PYROSCOPE) &&
  'TEST_COLLECTOR, TEST_PROMETHEUS_3 or TEST_PYROSCOPE names no program'
// It brings up the services with all that they send to.
const queries = [...panelQueries(), ...linkQueries(), ...rules()]
let stack: Stack | undefined
let traceFile = ''
let evidence: Evidence = gatherEvidence([], [], new Map())

/** The query with another spelling of one name in it. */
function misspelt(where: string, right: string, wrong: string): Query {
  const query = queries.find((query) => query.where === where && query.expr.includes(right))
  if (!query) throw new Error(`no query of ${where} has ${right}`)
  return { ...query, expr: query.expr.replaceAll(right, wrong) }
}

async function sendUntilSeen({ orders, payments }: Stack): Promise<Evidence> {
  for (const startedAt = performance.now(); ; ) {
    await sendOneOfEach({ url: orders.url, signal: AbortSignal.timeout(60_000) })
    for (const { url } of [orders, payments]) await (await fetch(`${url}/metrics`)).text()
    const seen = await seenNames(stack as Stack)
    if (queries.every((query) => unknownNames(query, seen).length === 0)) return seen
    if (performance.now() - startedAt > 120_000) return seen
  }
}

tap.before(async () => {
  if (skip) return
  const ingest = await startIngest()
  const free = await freePorts(PORT_NAMES.length)
  const ports = Object.fromEntries(PORT_NAMES.map((name, index) => [name, free[index]])) as Ports
  stack = await startStack(ports, { SENTRY_DSN: ingest.dsn })
  traceFile = stack.traceFile ?? ''
  evidence = await sendUntilSeen(stack)
  await stack.stop()
  await ingest.close()
})

test('names in every query only what the services sent', { skip }, async (t) => {
  const unknown = queries.flatMap((query) => unknownNames(query, evidence).map((what) => `${query.where}: ${what}`))
  t.same(unknown, [])
})

test('finds a misspelt label in a panel', { skip }, async (t) => {
  const wrong = misspelt('Logs, Failed requests by route', 'status_code', 'status_cod')
  t.same(unknownNames(wrong, evidence), ['no line has status_cod'])
  const grouped = misspelt('Service overview, Requests by status', 'http_response_status_code', 'http_status')
  t.same(unknownNames(grouped, evidence), ['no metric here has a label http_status'])
})

test('finds a misspelt span attribute in a TraceQL query', { skip }, async (t) => {
  const wrong = misspelt('Requests, from spans, Failed requests', 'span.http.route', 'span.http.rout')
  t.same(unknownNames(wrong, evidence), ['no span has http.rout'])
})

test('finds a misspelt metric in a rule', { skip }, async (t) => {
  const wrong = misspelt('rule ReadinessFailing', 'health_check_up', 'health_checks_up')
  t.same(unknownNames(wrong, evidence), ['there is no metric health_checks_up'])
})

test('finds a field that is compared with a number and sent as text', { skip }, async (t) => {
  const wrong = misspelt('Logs, Failed requests by route', 'status_code', 'method')
  t.match(unknownNames(wrong, evidence), [/^method is compared with a number and was sent as "/])
})

test('finds user → orders → payments, PostgreSQL and Redis in the spans that were sent', { skip }, async (t) => {
  t.same([...callsOf(traceFile)].sort(), [
    'orders → a database',
    'orders → payments',
    'orders → redis',
    'user → orders'
  ])
})

test('has a service call itself when its own address names its caller, as Tempo does', async (t) => {
  const root = {
    service: 'orders',
    traceId: '1',
    spanId: '2',
    parentSpanId: '',
    name: 'GET /',
    kind: 'SPAN_KIND_SERVER'
  }
  const span = {
    ...root,
    status: 'STATUS_CODE_UNSET',
    seconds: 1,
    attributes: { 'server.address': 'orders' },
    resource: {}
  }
  t.match(serviceGraph([span], ['server.address']), [{ client: 'orders', server: 'orders' }])
  t.match(serviceGraph([span], ['peer.service']), [{ client: 'user', server: 'orders' }])
})
