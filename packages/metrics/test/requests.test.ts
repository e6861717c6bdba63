import { EventEmitter, once } from 'node:events'
import { METHODS } from 'node:http'
import { connect, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import { WebSocket } from 'ws'
import metrics, { type MetricsOptions } from '../src/index.ts'

interface Served {
  app: FastifyInstance
  port: number
  /** Resolves when so many requests have ended. */
  ended(count: number): Promise<void>
}

async function serve(t: Test, declare: (app: FastifyInstance) => void, options: MetricsOptions = {}): Promise<Served> {
  const app = Fastify()
  await app.register(metrics, { exclude: ['/metrics'], ...options })
  const ends = new EventEmitter()
  let count = 0
  app.observation.observe({ name: 'test', end: () => void queueMicrotask(() => ends.emit('end', ++count)) })
  app.register(async (scope) => declare(scope))
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => app.close())
  return {
    app,
    port: Number(port),
    async ended(wanted) {
      while (count < wanted) await once(ends, 'end')
    }
  }
}

async function lines(app: FastifyInstance, pattern: RegExp): Promise<string[]> {
  const { body } = await app.inject('/metrics')
  return body.split('\n').filter((line) => pattern.test(line))
}

/** Sends bytes and reads to the end of the answer. */
async function exchange(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk
  })
  socket.on('error', () => undefined)
  socket.end(bytes)
  await once(socket, 'close')
  return answer
}

const COUNT = /^http_server_request_duration_seconds_count/
function count(method: string, route: string, status: number, error: string, value: number): string {
  return `http_server_request_duration_seconds_count{http_request_method="${method}",http_route="${route}",http_response_status_code="${status}",error_type="${error}"} ${value}`
}

test('counts success, 404, bad URL, malformed bytes and errors once each', async (t) => {
  const { app, port } = await serve(t, (app) => {
    app.get('/ok', async () => 'ok')
    app.get('/boom', async () => Promise.reject(new RangeError('boom')))
  })
  for (const path of ['/ok', '/boom', '/nowhere', '/%c0']) {
    await exchange(port, `GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`)
  }
  await exchange(port, 'NONSENSE\r\n\r\n')
  t.same(await lines(app, COUNT), [
    count('GET', '/ok', 200, '', 1),
    count('GET', '/boom', 500, 'RangeError', 1),
    count('GET', 'unmatched', 404, '', 1),
    count('GET', 'unmatched', 400, '', 1),
    count('_OTHER', 'unmatched', 400, 'HPE_INVALID_METHOD', 1)
  ])
  t.same(
    new Set((await lines(app, /^http_server_active_requests/)).map((line) => line.split(' ').at(-1))),
    new Set(['0'])
  )
})

test('counts requests that another plugin rejects, registered before or after', async (t) => {
  for (const order of ['before', 'after']) {
    const app = Fastify()
    const auth = () => app.addHook('onRequest', async (_request, reply) => reply.code(401).send())
    if (order === 'before') auth()
    await app.register(metrics, { exclude: ['/metrics'] })
    if (order === 'after') auth()
    app.get('/', async () => 'ok')
    await app.inject('/')
    t.equal((await app.inject('/metrics')).statusCode, 401)
    const text = await app.metrics.registry.metrics()
    t.same(
      text.split('\n').filter((line) => COUNT.test(line)),
      [count('GET', '/', 401, '', 1)],
      order
    )
  }
})

test('35 methods, 500 paths and 50 hosts make at most 12 series', async (t) => {
  const { app, port, ended } = await serve(t, () => undefined)
  const sockets = METHODS.filter((method) => method !== 'CONNECT').map(async (method) => {
    let bytes = ''
    for (let n = 0; n < 500; n++) bytes += `${method} /scan/${method}/${n} HTTP/1.1\r\nhost: h${n % 50}.example\r\n\r\n`
    await exchange(port, `${bytes}GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`)
  })
  await exchange(port, 'CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n')
  await Promise.all(sockets)
  await ended(sockets.length * 501)
  for (const name of ['request_duration_seconds_count', 'time_to_first_byte_seconds_count', 'active_requests']) {
    const series = await lines(app, new RegExp(`^http_server_${name}`))
    t.ok(series.length > 5 && series.length <= 12, `${name}: ${series.length}`)
  }
  const total = (await lines(app, COUNT)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  t.equal(total, sockets.length * 501)
})

test('1,000 requests that are aborted at any moment leave none in progress', async (t) => {
  const { app, port, ended } = await serve(t, (app) => {
    app.get('/slow', async (_request, reply) => {
      await wait(Math.random() * 10)
      const endless = new PassThrough()
      endless.write('bytes')
      return reply.send(endless)
    })
  })
  const clients = new Map<number | undefined, Socket>()
  app.server.on('request', ({ socket }) => {
    setTimeout(() => clients.get(socket.remotePort)?.destroy(), Math.random() * 20)
  })
  for (let round = 1; round <= 20; round++) {
    for (let n = 0; n < 50; n++) {
      const client = connect(port, '127.0.0.1', () => {
        clients.set(client.localPort, client)
        client.write('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n')
      }).on('error', () => undefined)
    }
    await ended(round * 50)
  }
  const counts = (await lines(app, COUNT)).filter((line) => line.includes('error_type="client_disconnect"'))
  t.equal(
    counts.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0),
    1000
  )
  t.equal(counts.length, 2, 'before the headers and after them')
  t.same(await lines(app, /^http_server_active_requests/), [
    'http_server_active_requests{http_request_method="GET",http_route="/slow"} 0'
  ])
})

test('measures the sizes of bodies, with and without a content-length', async (t) => {
  const { app, port } = await serve(t, (app) => app.post('/', async () => 'four'))
  const head = 'POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: text/plain\r\n'
  await exchange(port, `${head}content-length: 10\r\n\r\n0123456789`)
  await exchange(port, `${head}transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n2\r\n56\r\n0\r\n\r\n`)
  t.same(await lines(app, /^http_server_\w+_body_size_bytes_(sum|count)/), [
    'http_server_request_body_size_bytes_sum{http_request_method="POST",http_route="/"} 17',
    'http_server_request_body_size_bytes_count{http_request_method="POST",http_route="/"} 2',
    'http_server_response_body_size_bytes_sum{http_request_method="POST",http_route="/"} 8',
    'http_server_response_body_size_bytes_count{http_request_method="POST",http_route="/"} 2'
  ])
})

test('counts an upgraded connection with the time to its upgrade', async (t) => {
  const { app, port, ended } = await serve(t, (app) => {
    app.register(websocket)
    app.register(async (scope) => {
      scope.get('/socket', { websocket: true }, (socket) => void setTimeout(() => socket.close(), 300))
    })
  })
  const startedAt = performance.now()
  const socket = new WebSocket(`ws://127.0.0.1:${port}/socket`)
  await once(socket, 'close')
  await ended(1)
  const tookMs = performance.now() - startedAt
  t.same(await lines(app, COUNT), [count('GET', '/socket', 101, '', 1)])
  const [sum] = await lines(app, /^http_server_request_duration_seconds_sum/)
  // It was open for 300 ms after that.
  t.ok(1000 * Number(sum?.split(' ').at(-1)) < tookMs - 250)
  t.match(await lines(app, /^http_server_time_to_first_byte_seconds_count/), [/ 1$/])
})

test('leaves long-lived routes out of the duration and counts them by their first byte', async (t) => {
  const { app } = await serve(t, (app) => {
    app.get('/stream', { config: { observability: { metrics: { duration: false } } } }, async () => 'ok')
  })
  await app.inject('/stream')
  t.same(await lines(app, COUNT), [])
  t.same(await lines(app, /^http_server_time_to_first_byte_seconds_count/), [
    'http_server_time_to_first_byte_seconds_count{http_request_method="GET",http_route="/stream"} 1'
  ])
})

test('uses the buckets that a route sets', async (t) => {
  const { app } = await serve(t, (app) => {
    app.get('/report', { config: { observability: { metrics: { durationBuckets: [30, 60] } } } }, async () => 'ok')
  })
  await app.inject('/report')
  const limits = (await lines(app, /duration_seconds_bucket.*report/)).map((line) => /le="([^"]+)"/.exec(line)?.[1])
  t.same(limits, ['30', '60', '+Inf'])
  const wrong = { config: { observability: { metrics: { durationBuckets: [2, 1] } } } }
  const other = Fastify()
  await other.register(metrics)
  t.throws(() => other.get('/wrong', wrong, async () => 'ok'), /route \/wrong must have ascending numbers/)
})

test('leaves out excluded paths and routes, also when a hook rewrites their URL', async (t) => {
  const { app } = await serve(
    t,
    (app) => {
      app.addHook('preHandler', async ({ raw }) => {
        raw.url = '/else'
      })
      for (const path of ['/exact', '/below/x', '/matched1', '/route/:id', '/counted']) app.get(path, async () => 'ok')
      app.get('/own', { config: { observability: { metrics: false } } }, async () => 'ok')
    },
    { exclude: ['/metrics', '/exact', '/below/*', '/route/:id', /^\/matched\d$/g] }
  )
  for (const path of ['/exact', '/below/x', '/matched1', '/matched1', '/route/1', '/own', '/counted'])
    await app.inject(path)
  t.same(await lines(app, COUNT), [count('GET', '/counted', 200, '', 1)])
  t.same(await lines(app, /^http_server_active_requests/), [
    'http_server_active_requests{http_request_method="GET",http_route="/counted"} 0'
  ])
})

test('goes on counting after the registry was reset', async (t) => {
  const { app } = await serve(t, (app) => app.get('/', async () => 'ok'))
  await app.inject('/')
  app.metrics.registry.resetMetrics()
  t.same(await lines(app, COUNT), [])
  await app.inject('/')
  t.same(await lines(app, COUNT), [count('GET', '/', 200, '', 1)])
})

test('groups status codes', async (t) => {
  const { app } = await serve(t, (app) => app.get('/', async (_request, reply) => reply.code(204).send()), {
    groupStatusCodes: true
  })
  await app.inject('/')
  await app.inject('/nowhere')
  t.same(
    (await lines(app, COUNT)).map((line) => /status_code="([^"]+)"/.exec(line)?.[1]),
    ['2xx', '4xx']
  )
})

test('limits the values of custom labels', async (t) => {
  const customLabels = {
    tenant: (request: { headers: Record<string, unknown> }) => String(request.headers['x-tenant'])
  }
  const { app } = await serve(t, (app) => app.get('/', async () => 'ok'), { customLabels, maxLabelValues: 3 })
  for (let n = 0; n < 10; n++) await app.inject({ url: '/', headers: { 'x-tenant': `t${n}` } })
  t.same(
    (await lines(app, COUNT)).map((line) => line.replace(/.*tenant=/, '')),
    ['"t0"} 1', '"t1"} 1', '"t2"} 1', '"__overflow__"} 7']
  )
  t.same(await lines(app, /^metrics_series_overflow_total/), [
    'metrics_series_overflow_total{metric="http_server_request_duration_seconds"} 7'
  ])
})
