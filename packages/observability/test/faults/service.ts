// A service with everything on, for the faults to run as a process of its own. Its own counts, which need nothing of what
// is tested, and the counters of the suite go to file descriptor 3 when it ends.
import { writeSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { getHeapStatistics } from 'node:v8'
import { registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance } from 'fastify'
import observability, { http, type ObservabilityOptions, withSpan } from '../../src/index.ts'
import type { Counts, Report } from './process.ts'
import { declareRoutes } from './routes.ts'

const REPORT_FD = 3
/** Share of the heap's limit at which memory is short. */
const SHORT = 0.85
const { OPTIONS = '{}', DEPENDENCY } = process.env
const options: ObservabilityOptions = JSON.parse(OPTIONS)
const counts: Counts = { ended: 0, spans: 0, thrown: 0 }
let atCrash: Counts | undefined
const uncaught: string[] = []
const warnings: string[] = []
let hoard: unknown[] = []
let areCollectorsBroken = false
let isAnsweringOtherwise = false

const app = Fastify()
await app.register(observability, {
  ...options,
  health: {
    shutdown: { delayMs: 0, timeoutMs: 3_000 },
    checks: DEPENDENCY === undefined ? {} : { dependency: http(DEPENDENCY) },
    ...(typeof options.health === 'object' && options.health)
  },
  sentry: {
    maxEventsPerMinute: 100_000,
    maxEqualEventsPerMinute: 100_000,
    ...(typeof options.sentry === 'object' && options.sentry)
  }
})
declareRoutes(app, {
  work(fn) {
    counts.spans++
    return withSpan('work', fn)
  },
  onThrow: () => void counts.thrown++
})
declareFaults(app)
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume()
app.server.on('request', ({ url = '' }, response) => {
  if (url !== '/metrics' && !url.startsWith('/health')) response.on('close', () => counts.ended++)
})
// The suite listens to both, or the listener here would keep the process alive.
for (const event of ['uncaughtExceptionMonitor', 'unhandledRejection']) {
  process.on(event, (error) => {
    uncaught.push(String(error))
    atCrash ??= { ...counts }
  })
}
process.on('warning', ({ name, message }) => warnings.push(`${name}: ${message}`))
process.on('exit', () => tell({ ...counts, atCrash, uncaught, warnings, series: seriesOf(app) }))
tell({ origin: await app.listen({ port: 0, host: '127.0.0.1' }) })

/** What goes wrong in the service itself, when the driver asks for it. */
function declareFaults(app: FastifyInstance): void {
  app.post('/fault/block', async () => {
    const until = performance.now() + 5_000
    while (performance.now() < until);
  })
  app.post('/fault/hoard', async () => {
    const { heap_size_limit: limit } = getHeapStatistics()
    while (getHeapStatistics().used_heap_size < SHORT * limit)
      hoard.push(Array.from({ length: 10_000 }, (_, index) => ({ index, text: `held ${index}` })))
  })
  app.post('/fault/release', async () => {
    hoard = []
    return hoard
  })
  app.post('/fault/collectors', async () => {
    areCollectorsBroken = !areCollectorsBroken
  })
  app.post('/fault/answer', async () => {
    isAnsweringOtherwise = true
  })
  app.addHook('onSend', async (request, reply) => {
    if (isAnsweringOtherwise && request.url === '/text') reply.header('x-added', '1')
  })
  app.post('/fault/uncaught', async () => void setTimeout(() => fail('nobody catches me')))
  app.post('/fault/unhandled', async () => void setTimeout(async () => fail('nobody waits for me')))
  const { client, registry } = app.metrics
  const collects = {
    throwing: () => fail('a collector that throws'),
    hanging: () => new Promise<void>(() => undefined),
    rejecting: () => wait(1).then(() => fail('a collector that rejects'))
  }
  for (const [name, collect] of Object.entries(collects)) {
    const broken = (): void | Promise<void> => (areCollectorsBroken ? collect() : undefined)
    new client.Gauge({ name, help: `Of ${name}.`, registers: [registry], collect: broken })
  }
}

function fail(message: string): never {
  throw new TypeError(message)
}

function seriesOf(app: FastifyInstance): Report['series'] {
  return registryOf(app).published.flatMap(({ name, collect }) =>
    Array.from(collect(), ([labels, value]) => ({ name, label: Object.values(labels).join(), value }))
  )
}

function tell(message: object): void {
  writeSync(REPORT_FD, `${JSON.stringify(message)}\n`)
}
