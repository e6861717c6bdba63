import { withEnv } from '@fastify-observability/testing/environment'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { SpanKind, trace } from '@opentelemetry/api'
import { test } from 'tap'
import { startService } from './service.ts'

const SECRETS = Array.from({ length: 44 }, (_, index) => `s3cr3t-${index}-planted`)
const left = [...SECRETS]
// Further ones are planted twice.
const take = (): string => left.shift() ?? SECRETS[0] ?? ''

test('44 secrets in headers, URLs, lines, spans, errors, fields and options are nowhere', async (t) => {
  const given = {
    sentry: { dsn: `https://${take()}@host/1` },
    tracing: { endpoint: `http://me:${take()}@collector:4317` },
    management: { token: take(), port: 0 },
    health: { password: take() }
  }
  withEnv(t, { OTEL_EXPORTER_OTLP_HEADERS: `x-team=${take()}`, SENTRY_DSN: `https://${take()}@host/1` })
  const { app } = await startService(t, { given })
  app.post('/planted', async (request, reply) => {
    request.log.info({ password: take(), nested: { apiKey: take() } }, `token=${take()}`)
    request.log.debug({ authorization: take(), list: [{ secret: take() }] }, `password: ${take()}`)
    request.log.warn(`see https://me:${take()}@host/?access_token=${take()}`)
    request.observation.add({ sessionToken: take(), note: `api_key=${take()}` })
    const attributes = {
      'db.password': take(),
      'url.full': `http://h/?token=${take()}`,
      'db.query.text': `SELECT '${take()}'`
    }
    trace
      .getTracer('t')
      .startActiveSpan(`call token=${take()}`, { kind: SpanKind.CLIENT, attributes }, (span) => span.end())
    reply.header('set-cookie', `sid=${take()}`).header('x-api-key', take()).header('location', `/?code=${take()}`)
    const cause = new Error(`password=${take()}`)
    throw Object.assign(new Error(`Bearer ${take()}.abc.def`, { cause }), { code: `E token=${take()}` })
  })
  const thrown = [
    ['authorization', take()],
    () => `password ${SECRETS[0]}`,
    Buffer.from(take()),
    { toString: take },
    Object.assign(new Error('a'), { message: ['authorization', take()], code: ['token', take()] })
  ]
  app.get('/thrown/:index', async ({ params }) => Promise.reject(thrown[Number(Object(params).index)]))
  for (const index of thrown.keys()) await app.inject(`/thrown/${index}`)
  const headers = Object.fromEntries(
    ['authorization', 'cookie', 'x-api-key', 'proxy-authorization', 'x-csrf-token', 'x-auth-token', 'x-session-id'].map(
      (name) => [name, `${name === 'cookie' ? 'sid=' : ''}${take()}`]
    )
  )
  const query = ['token', 'access_token', 'api_key', 'password', 'code', 'state', 'client_secret', 'session_id']
  await app.inject({ method: 'POST', url: `/planted?${query.map((name) => `${name}=${take()}`).join('&')}`, headers })
  t.equal(left.length, 0, 'all are planted')

  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const client = new Client({ name: 'test', version: '1.0.0' })
  t.teardown(() => client.close())
  await client.connect(new StreamableHTTPClientTransport(new URL(`${address}/_observability/mcp`)))
  const answers = await Promise.all([
    ...[
      'requests',
      ...[1, 2, 3, 4, 5, 6].map((id) => `requests/${id}`),
      'routes',
      'runtime',
      'health',
      'delivery',
      'setup'
    ].map(async (path) => (await fetch(`${address}/_observability/api/${path}`)).text()),
    ...['list_requests', 'get_story', 'get_setup'].map(async (name) =>
      JSON.stringify(await client.callTool({ name, arguments: name === 'get_story' ? { id: '1' } : {} }))
    )
  ])
  const all = answers.join('\n')
  t.match(all, /planted\?token=\[redacted\]/)
  t.same(
    SECRETS.filter((secret) => all.includes(secret)),
    []
  )
})
