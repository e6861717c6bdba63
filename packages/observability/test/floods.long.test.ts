import { readdir, stat } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'

const COUNT = 5_000
const HONEST = 50
const MAX_FILE_BYTES = 1_100_000
const MAX_TOTAL_BYTES = 4_000_000
const MAX_GROWTH_BYTES = 12_000_000
const METHODS = ['GET', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD', 'PROPFIND', 'PURGE', 'MKCOL'] as const

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

async function service(t: Test) {
  const [collector, ingest] = [await startCollector(), await startIngest()]
  withEnv(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: '10' })
  const app = Fastify({ trustProxy: true })
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  const folder = t.testdir()
  const file = { path: `${folder}/app.log`, maxSize: '1MB', maxTotalSize: '3MB' }
  await app.register(observability, {
    logging: { stream: { write: () => undefined }, file, otlp: true },
    metrics: { otlp: true },
    tracing: { baggage: true },
    sentry: { dsn: ingest.dsn }
  })
  app.get('/flooded/:id', async ({ id }) => Promise.reject(new TypeError(`no order ${id}`)))
  app.get('/honest', async () => 'ok')
  app.get('/honest-error', async () => Promise.reject(new RangeError('honest')))
  return { app, collector, ingest, folder }
}

const hex = (index: number, length: number): string => (index + 1).toString(16).padStart(length, '7')

/** A request of which nothing is as in another. */
function distinct(index: number): InjectOptions {
  const method = METHODS[index % METHODS.length] ?? 'GET'
  return {
    // Every second one finds a route.
    method: index % 2 ? 'GET' : method,
    url: index % 2 ? `/flooded/${index}` : `/nowhere/${index}?q${index}=${index}`,
    headers: {
      host: `shop${index}.test`,
      'user-agent': `agent/${index} ${'u'.repeat(2_000)}`,
      'x-request-id': `caller-${index}`,
      'x-correlation-id': `caller-${index}`,
      'x-forwarded-for': `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`,
      traceparent: `00-${hex(index, 32)}-${hex(index, 16)}-01`,
      tracestate: `v${index}=${index}`,
      baggage: `k${index}=${index}`
    }
  }
}

async function flood(app: FastifyInstance, from: number): Promise<void> {
  for (let index = from; index < from + COUNT; index++) {
    await app.inject(distinct(index))
    if (index % (COUNT / HONEST) === 0) await app.inject('/honest')
    // The collector gets what it is sent meanwhile.
    if (index % 500 === 0) await app.observability.flush()
  }
}

async function seriesOf(app: FastifyInstance): Promise<string[]> {
  const { body } = await app.inject('/metrics')
  const names = body.split('\n').map((line) => line.replace(/ [^ ]+$/, ''))
  return names.filter((name) => name.startsWith('http_server_') && !name.includes('"/metrics"'))
}

/** The bytes in use, after what is on its way has gone: the least of several looks. */
async function memoryOf(app: FastifyInstance, received: unknown[][]): Promise<number> {
  const looks: number[] = []
  for (let look = 0; look < 5; look++) {
    await app.observability.flush()
    for (const list of received) list.length = 0
    collectGarbage()
    looks.push(process.memoryUsage().heapUsed)
  }
  return Math.min(...looks)
}

test('stays in its bounds under 10,000 requests of which nothing is as in another', async (t) => {
  const { app, collector, ingest, folder } = await service(t)
  const received = [
    ...Object.values(collector.requests),
    collector.spans,
    collector.logs,
    collector.points,
    collector.headers,
    ingest.envelopes,
    ingest.items
  ]
  await flood(app, 0)
  const [series, before] = [await seriesOf(app), await memoryOf(app, received)]
  await flood(app, COUNT)
  await app.observability.flush()
  t.same(await seriesOf(app), series, 'no series more')
  t.equal(collector.spans.filter(({ name }) => name === 'GET /honest').length, HONEST, 'spans of others')
  const growth = (await memoryOf(app, received)) - before
  t.ok(growth < MAX_GROWTH_BYTES, `${growth} bytes of memory more`)
  await app.inject('/honest-error')
  await app.close()
  t.ok(ingest.events.length <= 60, `${ingest.events.length} events`)
  t.ok(ingest.events.some(({ transaction }) => transaction === 'GET /honest-error'))
  const paths = (await readdir(folder)).map((name) => `${folder}/${name}`)
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size))
  t.ok(sizes.reduce((sum, size) => sum + size, 0) <= MAX_TOTAL_BYTES, `files of ${sizes} bytes`)
  t.ok(Math.max(...sizes) <= MAX_FILE_BYTES)
})
