import { once } from 'node:events'
import { createSecureServer } from 'node:http2'
import { createServer as createHttps } from 'node:https'
import { createServer, type Server } from 'node:net'
import { selfSigned } from '@fastify-observability/testing/certificate'
import { type Collector, type CollectorOptions, startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import { freePorts } from '@fastify-observability/testing/ports'
import { type Test, test } from 'tap'
import { type Diagnosis, diagnose, faultsIn, folderOf, runCommand, serviceOf } from './doctor.ts'

const SIGNALS = { OTEL_LOGS_EXPORTER: 'otlp', OTEL_METRICS_EXPORTER: 'otlp' }
const NAME = 'fastify-observability.doctor'
const WORDS = { grpc: 'OTLP/gRPC', 'http/protobuf': 'OTLP/HTTP' } as const
const PROTOCOLS = ['grpc', 'http/protobuf'] as const

async function collectorOf(t: Test, options: CollectorOptions): Promise<Collector> {
  const collector = await startCollector(options)
  t.teardown(() => collector.close())
  return collector
}

async function portOf(t: Test, server: Server): Promise<number> {
  const sockets = new Set<{ destroy(): unknown }>()
  server.on('connection', (socket) => sockets.add(socket)).listen(0, 'localhost')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  return typeof address === 'object' && address ? address.port : 0
}

for (const protocol of PROTOCOLS) {
  const env = { ...SIGNALS, OTEL_EXPORTER_OTLP_PROTOCOL: protocol }

  test(`sends a test span, record and point of a service over ${WORDS[protocol]}, with its headers`, async (t) => {
    const { url, spans, logs, points, headers } = await collectorOf(t, { protocol })
    const variables = { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=orders-team' }
    const result = await diagnose(folderOf(t, { 'server.mjs': serviceOf() }), variables, 'server.mjs')
    t.same([result.code, faultsIn(result), faultsIn(result, 'note')], [0, [], []])
    t.match(JSON.stringify(result.findings), `test span, record, point accepted by ${url} over ${WORDS[protocol]}`)
    const resource = { 'service.name': 'orders' }
    // Beside what the service itself sends, which may arrive first.
    t.match(
      [spans.find(({ name }) => name === NAME), logs.find(({ body }) => body === NAME)],
      [{ resource }, { resource }]
    )
    t.ok(points.some(({ name }) => name === NAME))
    t.ok(headers.every((one) => one['x-tenant'] === 'orders-team'))
  })
}

/** What is found where spans go over gRPC, and records over HTTP, to these. */
function diagnoseBoth(t: Test, grpc: string, http: string, env: NodeJS.ProcessEnv = {}): Promise<Diagnosis> {
  return diagnose(folderOf(t), {
    OTEL_LOGS_EXPORTER: 'otlp',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: grpc,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc',
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${http}/v1/logs`,
    OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: 'http/protobuf',
    ...env
  })
}

test('reports a gRPC port given to HTTP, and the reverse', async (t) => {
  const [grpc, http] = await Promise.all(PROTOCOLS.map((protocol) => collectorOf(t, { protocol })))
  const result = await diagnoseBoth(t, String(http?.url), String(grpc?.url))
  t.same([result.code, faultsIn(result)], [1, ['protocol-mixed-up', 'protocol-mixed-up']])
  t.match(JSON.stringify(result.findings), /test span not accepted by \S* over OTLP.gRPC: that port speaks OTLP.HTTP/)
  t.match(JSON.stringify(result.findings), /test record not accepted by \S* over OTLP.HTTP: that port speaks OTLP.gRPC/)
})

test('reports a port that nothing listens on', async (t) => {
  const [port] = await freePorts(1)
  const url = `http://127.0.0.1:${port}`
  const result = await diagnoseBoth(t, url, url)
  t.same([result.code, faultsIn(result)], [1, ['endpoint-closed', 'endpoint-closed']])
  t.match(JSON.stringify(result.findings), `test span not accepted by ${url} over OTLP/gRPC: nothing listens there`)
})

test('reports credentials that a collector refuses, and repeats none', async (t) => {
  const grpc = await collectorOf(t, { answer: () => ({ code: 16, details: 'no hunter2-secret' }) })
  const http = await collectorOf(t, { protocol: 'http/protobuf', answer: () => ({ status: 401 }) })
  const [one = '', other = ''] = [grpc, http].map(({ url }) => url.replace('://', '://me:hunter2-secret@'))
  const headers = { OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20hunter2-secret' }
  const result = await diagnoseBoth(t, one, other, headers)
  t.same([result.code, faultsIn(result)], [1, ['credentials', 'credentials']])
  t.match(JSON.stringify(result.findings), /UNAUTHENTICATED.*HTTP 401/)
  t.notMatch(result.output, 'hunter2')
})

test('reports a certificate that nobody it trusts has signed', async (t) => {
  const url = `https://localhost:${await portOf(t, createSecureServer(selfSigned()))}`
  const result = await diagnoseBoth(t, url, url)
  t.same([result.code, faultsIn(result)], [1, ['certificate', 'certificate']])
  t.match(JSON.stringify(result.findings), 'over OTLP/gRPC: DEPTH_ZERO_SELF_SIGNED_CERT')
})

test('reports TLS that is spoken where plain text is configured', async (t) => {
  const url = `http://localhost:${await portOf(t, createSecureServer(selfSigned()))}`
  const result = await diagnoseBoth(t, url, url)
  t.same([result.code, faultsIn(result)], [1, ['tls-mixed-up', 'tls-mixed-up']])
})

test('reports plain text that is spoken where TLS is configured', async (t) => {
  const [grpc, http] = await Promise.all(PROTOCOLS.map((protocol) => collectorOf(t, { protocol })))
  const [one = '', other = ''] = [grpc, http].map((collector) => String(collector?.url).replace('http:', 'https:'))
  const result = await diagnoseBoth(t, one, other)
  t.same([result.code, faultsIn(result)], [1, ['tls-mixed-up', 'tls-mixed-up']])
})

test('reports an endpoint that never answers', async (t) => {
  const silent = createServer((socket) => void socket.on('error', () => undefined).resume())
  const url = `http://localhost:${await portOf(t, silent)}`
  const result = await diagnoseBoth(t, url, url)
  t.same([result.code, faultsIn(result)], [1, ['endpoint-silent', 'endpoint-silent']])
})

test('trusts the authority that a variable names', async (t) => {
  const certificate = selfSigned()
  const port = await portOf(
    t,
    createHttps(certificate, (request, response) => request.resume().on('end', () => response.end()))
  )
  const result = await diagnose(folderOf(t), {
    OTEL_EXPORTER_OTLP_ENDPOINT: `https://localhost:${port}`,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
    OTEL_EXPORTER_OTLP_CERTIFICATE: certificate.file
  })
  t.same([result.code, faultsIn(result)], [0, []])
})

test('reports the endpoint of one signal that has no path', async (t) => {
  const { url } = await collectorOf(t, { protocol: 'http/protobuf' })
  const variables = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' }
  const result = await diagnose(folderOf(t), variables)
  t.same([result.code, faultsIn(result)], [1, ['endpoint-path']])
})

test('reports what a collector has received and rejected', async (t) => {
  const { url } = await collectorOf(t, { answer: () => ({ rejected: 1 }) })
  const result = await diagnose(folderOf(t), { OTEL_EXPORTER_OTLP_ENDPOINT: url })
  t.same([result.code, faultsIn(result)], [1, ['endpoint-refused']])
})

test('sends to the endpoint that an option names, and by variables that the service sets itself', async (t) => {
  const own = await collectorOf(t, { protocol: 'http/protobuf' })
  const common = await collectorOf(t, { protocol: 'http/protobuf' })
  const variables = {
    ...SIGNALS,
    OTEL_EXPORTER_OTLP_ENDPOINT: common.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf'
  }
  const before = `Object.assign(process.env, ${JSON.stringify(variables)})`
  const suite = JSON.stringify({ tracing: { endpoint: own.url } })
  const result = await diagnose(folderOf(t, { 'server.mjs': serviceOf({ before, suite }) }), {}, 'server.mjs')
  t.same([result.code, faultsIn(result)], [0, []])
  t.match([own.spans, own.logs, common.spans], [[{ name: NAME }], [], []])
  t.equal(common.logs.filter(({ body }) => body === NAME).length, 1)
})

test('sends an event to Sentry when it is asked to, and only then', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const folder = folderOf(t)
  t.match(JSON.stringify(await diagnose(folder, { SENTRY_DSN: ingest.dsn })), '--sentry sends a test event')
  t.same(ingest.events, [])
  const { code } = await diagnose(folder, { SENTRY_DSN: ingest.dsn }, '--sentry')
  t.same([code, ingest.events.map(({ message }) => message)], [0, ['fastify-observability doctor: a test event']])
})

test('reports a Sentry that refuses the event, or that none is in use', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  ingest.answer = { status: 403 }
  const refused = await diagnose(folderOf(t), { SENTRY_DSN: ingest.dsn }, '--sentry')
  t.same([refused.code, faultsIn(refused)], [1, ['sentry-refused']])
  t.match(JSON.stringify(refused.findings), 'HTTP 403')
  t.same(faultsIn(await diagnose(folderOf(t), {}, '--sentry')), ['sentry-off'])
})

test('shows no secret of a service that does not start', async (t) => {
  const before = `const { DB_PASSWORD, API_TOKEN } = process.env
    throw new Error('cannot reach postgres://me:' + DB_PASSWORD + '@db/orders with ' + API_TOKEN)`
  const folder = folderOf(t, { 'server.mjs': before })
  const variables = { DB_PASSWORD: 'hunter2-secret', API_TOKEN: 'swordfish-secret' }
  const { output, code } = await runCommand(['doctor', 'server.mjs'], folder, variables)
  t.match(output, /import-failed/)
  t.notMatch(output, /hunter2|swordfish/)
  t.equal(code, 1)
})
