import health from '@fastify-observability/health'
import logging from '@fastify-observability/logging'
import metrics from '@fastify-observability/metrics'
import requestId from '@fastify-observability/request-id'
import sentry from '@fastify-observability/sentry'
import { startIngest } from '@fastify-observability/testing/ingest'
import tracing from '@fastify-observability/tracing'
import Fastify, { type FastifyInstance } from 'fastify'
import tap, { test } from 'tap'
import observability from '../src/index.ts'

type Line = Record<string, unknown>

const ingest = await startIngest()
tap.teardown(() => ingest.close())
// Sentry makes spans where nobody else does. A request that is sampled has an id of its trace on its line.
const toSentry = { dsn: ingest.dsn, tracesSampleRate: Number.MIN_VALUE }

const REGISTER = {
  requestId: (app: FastifyInstance) => app.register(requestId),
  logging: (app: FastifyInstance) => app.register(logging),
  tracing: (app: FastifyInstance) => app.register(tracing),
  metrics: (app: FastifyInstance) => app.register(metrics),
  health: (app: FastifyInstance) => app.register(health),
  sentry: (app: FastifyInstance) => app.register(sentry, toSentry),
  umbrella: (app: FastifyInstance) => app.register(observability, { sentry: toSentry })
}
type Name = keyof typeof REGISTER
const NAMES = Object.keys(REGISTER).filter((name): name is Name => name in REGISTER)
const SPANS_TWICE = 'both Sentry and OpenTelemetry make spans'

/** What one request, which fails, leaves in each signal. */
async function signalsOf(first: Name, second: Name, inChild: boolean): Promise<object> {
  const lines: Line[] = []
  const app = Fastify({ logger: { stream: { write: (line) => void lines.push(JSON.parse(line)) } } })
  async function rest(scope: FastifyInstance): Promise<void> {
    await REGISTER[second](scope)
    scope.get('/boom', async () => Promise.reject(new TypeError('boom')))
  }
  await REGISTER[first](app)
  await (inChild ? app.register(rest) : rest(app))
  const { headers } = await app.inject({ url: '/boom', headers: { 'x-request-id': 'r1' } })
  const [exposition, probe] = [await app.inject('/metrics'), await app.inject('/health')]
  await app.close()
  const events = ingest.events.splice(0)
  return {
    header: headers['x-request-id'],
    lines: lines
      .filter(({ route }) => route === '/boom')
      .map(({ request_id, trace_id }) => [request_id, typeof trace_id]),
    series: /duration_seconds_count\{[^}]*http_route="\/boom"/.test(exposition.body),
    counted: exposition.body.includes('log_lines_total'),
    health: probe.statusCode,
    events: events.map(({ tags }) => tags?.request_id),
    warnings: lines
      .filter(({ level, route }) => ['warn', '40'].includes(String(level)) && !route)
      .map(({ msg }) => new RegExp(`already registered|${SPANS_TWICE}`).exec(String(msg))?.[0])
  }
}

function expectedOf(first: Name, second: Name): object {
  const has = (part: Name): boolean => [part, 'umbrella'].some((name) => name === first || name === second)
  const isTwice = first === second || first === 'umbrella' || second === 'umbrella'
  const isLate = first === 'sentry' && (second === 'tracing' || second === 'umbrella')
  const id = has('requestId') ? 'r1' : 'req-1'
  return {
    header: has('requestId') ? 'r1' : undefined,
    lines: has('logging') ? [[id, has('tracing') ? 'string' : 'undefined']] : [],
    series: has('metrics'),
    counted: has('metrics') && has('logging'),
    health: has('health') ? 200 : 404,
    events: has('sentry') ? [id] : [],
    warnings: [...(isTwice ? ['already registered'] : []), ...(isLate ? [SPANS_TWICE] : [])]
  }
}

for (const first of NAMES) {
  for (const second of NAMES) {
    test(`has all of ${first} and then ${second}, the second also in a child instance`, async (t) => {
      const expected = expectedOf(first, second)
      t.same(await signalsOf(first, second, false), expected)
      t.same(await signalsOf(first, second, true), expected)
    })
  }
}

test('takes true for each part, and leaves out each that is false', async (t) => {
  const parts = ['requestId', 'logging', 'tracing', 'metrics', 'health', 'sentry'] as const
  for (const left of parts) {
    const app = Fastify({ logger: false })
    await app.register(observability, Object.fromEntries(parts.map((part) => [part, part !== left])))
    app.get('/', async () => 'ok')
    const [{ headers }, exposition, probe] = [
      await app.inject('/'),
      await app.inject('/metrics'),
      await app.inject('/health')
    ]
    const has = [headers['x-request-id'] !== undefined, exposition.statusCode === 200, probe.statusCode === 200]
    t.same(
      has,
      ['requestId', 'metrics', 'health'].map((part) => part !== left),
      left
    )
    t.same(
      [app.hasDecorator('logging'), app.hasRequestDecorator('span')],
      ['logging', 'tracing'].map((part) => part !== left)
    )
    await app.close()
  }
})
