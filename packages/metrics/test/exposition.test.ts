import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import { connect, type Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { registryOf } from '@fastify-observability/observation/internal'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import metrics from '../src/index.ts'

const OPEN_METRICS = 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1'
const TEXT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
const OPEN_METRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'
const RUNTIME = /^(# \w+ )?(nodejs|process)_/

/** An app of one route, which has answered one request in a sampled trace. */
async function smallApp(): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(metrics, {
    service: { name: 'shop', version: '1.0.0', environment: 'test' },
    durationBuckets: [10],
    bodySizeBuckets: [10],
    exclude: ['/metrics']
  })
  registryOf(app).observe({
    name: 'span',
    start: (observation) => {
      observation.spanContext = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }
    }
  })
  const jobs = app.metrics.counter({ name: 'jobs_total', help: 'Jobs "done" in C:\\\nall.', labelNames: ['kind'] })
  app.get('/work/:id', async () => {
    jobs.inc({ kind: 'a"b\\c\n' }, 2)
    return 'done'
  })
  await app.inject('/work/1')
  return app
}

/** The exposition without the runtime's metrics and without what differs from run to run. */
async function exposition(app: FastifyInstance, accept: string): Promise<string> {
  const { body } = await app.inject({ url: '/metrics', headers: { accept } })
  return body
    .split('\n')
    .filter((line) => !RUNTIME.test(line))
    .join('\n')
    .replace(/(seconds_sum\{.*\}) [\d.e-]+/g, '$1 S')
    .replace(/(\}) [\d.e-]+ 1\d{9}(\.\d+)?$/gm, '$1 V T')
}

test('writes the text format', async (t) => {
  const labels = 'http_request_method="GET",http_route="/work/:id"'
  const outcome = `${labels},http_response_status_code="200",error_type=""`
  t.equal(
    await exposition(await smallApp(), 'text/plain'),
    `# HELP target_info Target metadata.
# TYPE target_info gauge
target_info{service_name="shop",service_version="1.0.0",deployment_environment_name="test"} 1
# HELP http_server_request_duration_seconds Duration of HTTP server requests.
# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_bucket{${outcome},le="10"} 1
http_server_request_duration_seconds_bucket{${outcome},le="+Inf"} 1
http_server_request_duration_seconds_sum{${outcome}} S
http_server_request_duration_seconds_count{${outcome}} 1
# HELP http_server_time_to_first_byte_seconds Time from the arrival of HTTP server requests to their response headers.
# TYPE http_server_time_to_first_byte_seconds histogram
http_server_time_to_first_byte_seconds_bucket{${labels},le="10"} 1
http_server_time_to_first_byte_seconds_bucket{${labels},le="+Inf"} 1
http_server_time_to_first_byte_seconds_sum{${labels}} S
http_server_time_to_first_byte_seconds_count{${labels}} 1
# HELP http_server_active_requests HTTP server requests in progress.
# TYPE http_server_active_requests gauge
http_server_active_requests{${labels}} 0
# HELP http_server_request_body_size_bytes Size of HTTP server request bodies.
# TYPE http_server_request_body_size_bytes histogram
http_server_request_body_size_bytes_bucket{${labels},le="10"} 1
http_server_request_body_size_bytes_bucket{${labels},le="+Inf"} 1
http_server_request_body_size_bytes_sum{${labels}} 0
http_server_request_body_size_bytes_count{${labels}} 1
# HELP http_server_response_body_size_bytes Size of HTTP server response bodies.
# TYPE http_server_response_body_size_bytes histogram
http_server_response_body_size_bytes_bucket{${labels},le="10"} 1
http_server_response_body_size_bytes_bucket{${labels},le="+Inf"} 1
http_server_response_body_size_bytes_sum{${labels}} 4
http_server_response_body_size_bytes_count{${labels}} 1
# HELP jobs_total Jobs "done" in C:\\\\\\nall.
# TYPE jobs_total counter
jobs_total{kind="a\\"b\\\\c\\n"} 2
# HELP observability_observer_errors_total Errors thrown by observers of requests.
# TYPE observability_observer_errors_total counter
# HELP observability_fields_dropped_total Fields added to requests that were not kept.
# TYPE observability_fields_dropped_total counter
observability_fields_dropped_total{reason="too_many"} 0
observability_fields_dropped_total{reason="too_large"} 0
observability_fields_dropped_total{reason="reserved"} 0
observability_fields_dropped_total{reason="invalid"} 0
observability_fields_dropped_total{reason="ended"} 0
# HELP metrics_series_overflow_total Values counted under __overflow__ because their metric had reached a series limit.
# TYPE metrics_series_overflow_total counter
# HELP metrics_values_dropped_total Invalid values dropped.
# TYPE metrics_values_dropped_total counter
`
  )
})

test('writes OpenMetrics, with the exemplars of sampled spans', async (t) => {
  const labels = 'http_request_method="GET",http_route="/work/:id"'
  const outcome = `${labels},http_response_status_code="200",error_type=""`
  const exemplar = ` # {trace_id="${'a'.repeat(32)}",span_id="${'b'.repeat(16)}"} V T`
  t.equal(
    await exposition(await smallApp(), OPEN_METRICS),
    `# TYPE target info
# HELP target Target metadata.
target_info{service_name="shop",service_version="1.0.0",deployment_environment_name="test"} 1
# TYPE http_server_request_duration_seconds histogram
# UNIT http_server_request_duration_seconds seconds
# HELP http_server_request_duration_seconds Duration of HTTP server requests.
http_server_request_duration_seconds_bucket{${outcome},le="10.0"} 1${exemplar}
http_server_request_duration_seconds_bucket{${outcome},le="+Inf"} 1
http_server_request_duration_seconds_sum{${outcome}} S
http_server_request_duration_seconds_count{${outcome}} 1
# TYPE http_server_time_to_first_byte_seconds histogram
# UNIT http_server_time_to_first_byte_seconds seconds
# HELP http_server_time_to_first_byte_seconds Time from the arrival of HTTP server requests to their response headers.
http_server_time_to_first_byte_seconds_bucket{${labels},le="10.0"} 1${exemplar}
http_server_time_to_first_byte_seconds_bucket{${labels},le="+Inf"} 1
http_server_time_to_first_byte_seconds_sum{${labels}} S
http_server_time_to_first_byte_seconds_count{${labels}} 1
# TYPE http_server_active_requests gauge
# HELP http_server_active_requests HTTP server requests in progress.
http_server_active_requests{${labels}} 0
# TYPE http_server_request_body_size_bytes histogram
# UNIT http_server_request_body_size_bytes bytes
# HELP http_server_request_body_size_bytes Size of HTTP server request bodies.
http_server_request_body_size_bytes_bucket{${labels},le="10.0"} 1${exemplar}
http_server_request_body_size_bytes_bucket{${labels},le="+Inf"} 1
http_server_request_body_size_bytes_sum{${labels}} 0
http_server_request_body_size_bytes_count{${labels}} 1
# TYPE http_server_response_body_size_bytes histogram
# UNIT http_server_response_body_size_bytes bytes
# HELP http_server_response_body_size_bytes Size of HTTP server response bodies.
http_server_response_body_size_bytes_bucket{${labels},le="10.0"} 1${exemplar}
http_server_response_body_size_bytes_bucket{${labels},le="+Inf"} 1
http_server_response_body_size_bytes_sum{${labels}} 4
http_server_response_body_size_bytes_count{${labels}} 1
# TYPE jobs counter
# HELP jobs Jobs \\"done\\" in C:\\\\\\nall.
jobs_total{kind="a\\"b\\\\c\\n"} 2${exemplar}
# TYPE observability_observer_errors counter
# HELP observability_observer_errors Errors thrown by observers of requests.
# TYPE observability_fields_dropped counter
# HELP observability_fields_dropped Fields added to requests that were not kept.
observability_fields_dropped_total{reason="too_many"} 0
observability_fields_dropped_total{reason="too_large"} 0
observability_fields_dropped_total{reason="reserved"} 0
observability_fields_dropped_total{reason="invalid"} 0
observability_fields_dropped_total{reason="ended"} 0
# TYPE metrics_series_overflow counter
# HELP metrics_series_overflow Values counted under __overflow__ because their metric had reached a series limit.
# TYPE metrics_values_dropped counter
# HELP metrics_values_dropped Invalid values dropped.
# EOF
`
  )
})

const FORMATS: [accept: string | undefined, type: string][] = [
  [undefined, TEXT_TYPE],
  ['*/*', TEXT_TYPE],
  ['text/plain', TEXT_TYPE],
  ['application/json', TEXT_TYPE],
  ['application/openmetrics-text;version=2.0.0', TEXT_TYPE],
  ['application/openmetrics-text;q=0,text/plain', TEXT_TYPE],
  ['text/plain;q=0.9,application/openmetrics-text;q=0.1', TEXT_TYPE],
  ['application/openmetrics-text', OPEN_METRICS_TYPE],
  ['application/openmetrics-text; version=1.0.0; charset=utf-8', OPEN_METRICS_TYPE],
  [OPEN_METRICS, OPEN_METRICS_TYPE]
]

test('answers in the format that the request prefers, HEAD like GET', async (t) => {
  const app = await smallApp()
  for (const [accept, type] of FORMATS) {
    const headers = accept === undefined ? {} : { accept }
    const { headers: answered } = await app.inject({ url: '/metrics', headers })
    t.equal(answered['content-type'], type, accept ?? 'no Accept')
    const head = await app.inject({ method: 'HEAD', url: '/metrics', headers })
    t.match(head, { statusCode: 200, body: '', headers: { 'content-type': type, vary: 'accept, accept-encoding' } })
  }
})

test('compresses for clients that accept gzip', async (t) => {
  const app = await smallApp()
  for (const accept of ['gzip', 'deflate, gzip;q=0.5', '*']) {
    const answer = await app.inject({ url: '/metrics', headers: { 'accept-encoding': accept } })
    t.equal(answer.headers['content-encoding'], 'gzip')
    t.match(gunzipSync(answer.rawPayload).toString(), /^jobs_total/m, accept)
  }
  for (const accept of ['identity', 'gzip;q=0', 'br']) {
    t.notOk((await app.inject({ url: '/metrics', headers: { 'accept-encoding': accept } })).headers['content-encoding'])
  }
})

test('leaves out a metric that throws, rejects or hangs, and shows all others', async (t) => {
  const app = await smallApp()
  const hang = () => new Promise<void>(() => {})
  app.metrics.gauge({
    name: 'throws',
    help: 'Throws.',
    collect: () => {
      throw new Error('no')
    }
  })
  app.metrics.gauge({ name: 'rejects', help: 'Rejects.', collect: () => Promise.reject(new Error('no')) })
  app.metrics.gauge({ name: 'hangs', help: 'Hangs.', collect: hang })
  new app.metrics.client.Gauge({
    name: 'theirs',
    help: 'Throws.',
    registers: [app.metrics.registry],
    collect: () => {
      throw new Error('no')
    }
  })
  app.metrics.gauge({ name: 'fine', help: 'Fine.' }).set(1)
  for (const round of [1, 2]) {
    const startedAt = performance.now()
    const { statusCode, body } = await app.inject('/metrics')
    t.equal(statusCode, 200)
    t.ok(performance.now() - startedAt < STARVED_MS, `in time, round ${round}`)
    t.match(body, /^fine 1$/m)
    t.notMatch(body, /^(throws|rejects|hangs|theirs)/m)
  }
  const errors = registryOf(app).published.find(({ name }) => name === 'observability_observer_errors_total')
  t.same(
    [...(errors?.collect() ?? [])],
    [[{ observer: '@fastify-observability/metrics' }, 7]],
    'a metric that hangs is not read again'
  )
})

test('collects once for scrapes at the same time', async (t) => {
  const app = await smallApp()
  let collected = 0
  app.metrics.gauge({
    name: 'collected',
    help: 'Times collected.',
    collect() {
      this.set(++collected)
    }
  })
  const answers = await Promise.all(Array.from({ length: 50 }, () => app.inject('/metrics')))
  t.equal(new Set(answers.map(({ body }) => /^collected .*$/m.exec(body)?.[0])).size, 1)
  t.equal(collected, 1)
  await app.inject('/metrics')
  t.equal(collected, 2)
})

test('aborts the oldest responses that are not read when more follow', async (t) => {
  const app = await smallApp()
  t.teardown(() => app.close())
  for (const name of ['one', 'other']) {
    const many = app.metrics.histogram({ name, help: 'Many.', labelNames: ['n'] })
    for (let n = 0; n < 500; n++) many.observe({ n: `${n}`.padEnd(1000) }, n)
  }
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const responses: ServerResponse[] = []
  app.server.on('request', (_request, response) => responses.push(response))
  for (let n = 0; n < 6; n++) {
    const reader = connect(Number(port), '127.0.0.1')
      .pause()
      .on('error', () => undefined)
    t.teardown(() => reader.destroy())
    reader.write('GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n')
    await once(reader, 'readable')
  }
  t.same(
    responses.map(({ destroyed }) => destroyed),
    [true, true, false, false, false, false]
  )
})

test('a client that disconnects early leaves the responses of others alone', async (t) => {
  const app = await smallApp()
  t.teardown(() => app.close())
  for (const name of ['one', 'other']) {
    const many = app.metrics.histogram({ name, help: 'Many.', labelNames: ['n'] })
    for (let n = 0; n < 500; n++) many.observe({ n: `${n}`.padEnd(1000) }, n)
  }
  let gate: Promise<void> | undefined
  app.metrics.gauge({ name: 'gated', help: 'G.', collect: () => gate })
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  async function ask(): Promise<{ socket: Socket; response: ServerResponse }> {
    const socket = connect(Number(port), '127.0.0.1').pause()
    t.teardown(() => socket.destroy())
    socket.write('GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n')
    const [, response] = await once(app.server, 'request')
    return { socket, response }
  }
  const reader = await ask()
  await once(reader.socket, 'readable')
  for (let n = 0; n < 2; n++) {
    const { promise, resolve } = Promise.withResolvers<void>()
    gate = promise
    const { socket, response } = await ask()
    socket.destroy()
    await once(response, 'close')
    resolve()
    const next = await ask()
    next.socket.resume()
    await once(next.response, 'close')
  }
  t.equal(reader.response.destroyed, false)
})

const promtool = process.env.TEST_PROMTOOL ?? 'promtool'
const hasPromtool = spawnSync(promtool, ['--version']).status === 0

test('passes promtool check metrics', { skip: !hasPromtool && 'no promtool (TEST_PROMTOOL)' }, async (t) => {
  const { body } = await (await smallApp()).inject('/metrics')
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: body, encoding: 'utf8' })
  t.same({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' })
})

test('warns of every other Prometheus client, however it was loaded, once each', async (t) => {
  const client = () => ({ 'index.js': "require('./lib/registry.js')", lib: { 'registry.js': 'exports.register = {}' } })
  const nested = { node_modules: { '@prometheus-io': { client: client() } } }
  const directory = t.testdir({ node_modules: { 'prom-client': client(), other: nested } })
  const paths = ['prom-client/index.js', 'other/node_modules/@prometheus-io/client/index.js']
  createRequire(import.meta.url)(`${directory}/node_modules/${paths[0]}`)
  await import(`${directory}/node_modules/${paths[1]}`)
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line) => void lines.push(line) } } })
  await app.register(metrics)
  await app.ready()
  t.match(
    lines.map((line) => JSON.parse(line)),
    paths.map((path) => ({
      level: 40,
      path: `${directory}/node_modules/${path}`,
      msg: /a second Prometheus client is loaded.*install one copy/
    }))
  )
})

test('collects once for scrapes of different formats at the same time', async (t) => {
  const app = await smallApp()
  let collected = 0
  app.metrics.gauge({ name: 'collected', help: 'Times collected.', collect: () => void collected++ })
  const accepted = ['text/plain', 'application/openmetrics-text']
  const answers = await Promise.all(accepted.map((accept) => app.inject({ url: '/metrics', headers: { accept } })))
  for (const { body } of answers) t.match(body, /^collected /m)
  t.equal(collected, 1)
})
