import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { registryOf } from '@fastify-observability/observation/internal'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { test } from 'tap'
import { CATALOGUE, readCatalogue } from './catalogue.ts'
import { API, ask, startService } from './service.ts'

test('lists the last requests, newest first', async (t) => {
  const { app } = await startService(t)
  for (const url of ['/ok', '/nothing']) await app.inject(url)
  const { requests } = await ask(app, 'requests')
  t.match(requests, [
    { method: 'GET', path: '/nothing', route: 'unmatched', status: 404, aborted: false },
    { method: 'GET', path: '/ok', route: '/ok', status: 200, durationMs: Number, ttfbMs: Number }
  ])
})

test('filters by route, status, duration, and text', async (t) => {
  const { app } = await startService(t)
  await app.inject('/ok')
  await app.inject({ method: 'POST', url: '/orders' })
  for (const filter of ['route=/orders', 'status=5', 'status=502', 'text=charge%20FAILED']) {
    const { requests } = await ask(app, `requests?${filter}`)
    t.same(
      requests.map(({ path }: { path: string }) => path),
      ['/orders'],
      filter
    )
  }
  t.equal((await ask(app, 'requests?slowerThanMs=0.0001')).requests.length, 2)
  t.equal((await ask(app, 'requests?slowerThanMs=86400000')).requests.length, 0)
  t.equal((await ask(app, 'requests?limit=1')).requests.length, 1)
})

test('tells the story of a failed request: spans, lines, error, fields, ids', async (t) => {
  const { app, written } = await startService(t)
  const { headers } = await app.inject({ method: 'POST', url: '/orders' })
  const story = await ask(app, `requests/${headers['x-request-id']}`)
  const names = story.spans.map(({ name }: { name: string }) => name)
  t.same(names, ['POST /orders', 'validate', ...Array(3).fill('pg.query:SELECT'), 'charge'])
  t.same(
    story.statements.map(({ text, count }: { text: string; count: number }) => [text, count]),
    [['SELECT * FROM lines WHERE id = $1', 3]]
  )
  t.match(story, {
    status: 502,
    requestId: headers['x-request-id'],
    fields: { plan: 'pro' },
    traceId: written.at(-1)?.trace_id
  })
  t.match(story.lines, [
    { level: 'debug', message: 'validating the order', fields: { amount: 42 }, isWritten: false },
    { level: 'info', message: 'order stored', isWritten: true },
    { level: 'error', message: 'request completed', isWritten: true }
  ])
  t.notOk(written.some(({ level }) => level === 'debug'))
})

test('shows the causes of an error, and the source around its own frames', async (t) => {
  const { app } = await startService(t)
  await app.inject({ method: 'POST', url: '/orders' })
  const { errors } = await ask(app, 'requests/1')
  t.match(errors, [
    { type: 'Error', message: 'the charge failed' },
    { type: 'Error', message: 'card refused' }
  ])
  const [frame, ...others] = errors[1].own
  t.same(
    others.filter(({ file }: { file: string }) => file.includes('/src/')),
    [],
    'none of the suite itself'
  )
  t.match(frame.file, /packages\/devtools\/test\/service\.ts$/)
  const here = frame.source.find(({ line }: { line: number }) => line === frame.line)
  t.match(here.text, "const cause = new Error('card refused')")
})

test('reads no file that only a message names', async (t) => {
  const { app } = await startService(t)
  app.get('/forged', async () => {
    throw new Error(`no\n    at forged (${import.meta.filename}:1:1)\n    at x (/etc/passwd:1:1)`)
  })
  await app.inject('/forged')
  const { errors } = await ask(app, 'requests/1')
  t.equal(errors[0].frames.filter((frame: string) => /forged \(|passwd/.test(frame)).length, 0)
})

test('lines and spans that come after the answer are in the story too', async (t) => {
  const { app } = await startService(t)
  const { promise: answered, resolve: goOn } = Promise.withResolvers<void>()
  let late: Promise<void> = Promise.resolve()
  app.get('/later', async (request) => {
    late = answered.then(() => request.log.info('done behind the answer'))
    return 'accepted'
  })
  await app.inject('/later')
  goOn()
  await late
  const { lines } = await ask(app, 'requests/1')
  t.match(lines.at(-1), { message: 'done behind the answer' })
})

test('keeps 500 requests, and no more than 16 MiB', async (t) => {
  const { app } = await startService(t)
  app.get('/large', async (request) => {
    for (let line = 0; line < 40; line++) request.log.info({ text: '- '.repeat(30_000) }, 'large')
    return 'ok'
  })
  for (let count = 0; count < 501; count++) await app.inject('/ok')
  t.equal((await ask(app, 'requests')).requests.length, 500)
  t.equal((await app.inject(`${API}/requests/1`)).statusCode, 404)
  for (let count = 0; count < 20; count++) await app.inject('/large')
  const { keptBytes } = await ask(app, 'setup')
  t.ok(keptBytes > 10_000_000 && keptBytes <= 16 * 1024 * 1024, `${keptBytes}`)
  t.match((await ask(app, 'requests/521')).unshown, 23)
})

test('leaves out probes, /metrics and its own requests', async (t) => {
  const { app, written } = await startService(t)
  for (const url of ['/health', '/health/ready', '/metrics', '/_observability']) await app.inject(url)
  t.same(await ask(app, 'requests'), { requests: [], unrecorded: 0 })
  t.notOk(written.some(({ path }) => String(path).startsWith('/_observability')))
})

test('sends each request to the open pages, and closes with one open', async (t) => {
  const { app } = await startService(t)
  const address = await app.listen({ port: 0 })
  const [stream]: [IncomingMessage] = await once(get(`${address}${API}/events`), 'response').then(([one]) => [one])
  t.equal(stream.headers['content-type'], 'text/event-stream')
  stream.setEncoding('utf8')
  await fetch(`${address}/ok`)
  let text = ''
  for await (const chunk of stream) {
    text += chunk
    if (text.includes('"status":200')) await app.close()
  }
  t.match(text, /event: requests\ndata: \[\{"id":"1"/)
})

test('its address is logged where the service listens', async (t) => {
  const { app, written } = await startService(t)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  t.ok(written.some(({ msg }) => msg === `developer page: ${address}/_observability`))
})

test('shows rate, errors and percentiles of the histograms of /metrics', async (t) => {
  const { app } = await startService(t)
  for (let count = 0; count < 3; count++) await app.inject('/ok')
  await app.inject({ method: 'POST', url: '/orders' })
  const { rows } = await ask(app, 'routes')
  t.match(rows, [
    { method: 'GET', route: '/ok', count: 3, errors: 0 },
    { method: 'POST', route: '/orders', count: 1, errors: 1 }
  ])
  for (const { p50Ms, p95Ms, p99Ms } of rows) t.ok(0 < p50Ms && p50Ms <= p95Ms && p95Ms <= p99Ms)
})

test('shows the runtime, and each check with its last reason', async (t) => {
  const { app } = await startService(t)
  const { samples } = await ask(app, 'runtime')
  t.match(samples[0], { heapBytes: Number, rssBytes: Number, utilization: Number, delayMs: Number, handles: Number })
  t.match(await ask(app, 'health'), {
    status: 'not_ready',
    draining: false,
    checks: { database: { state: 'ok', details: { latency: 3 } }, cache: { state: 'failed', error: 'cache is down' } }
  })
})

test('of each destination, what was produced is delivered, dropped or waiting', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const { app } = await startService(t, {}, collector.url)
  await app.inject({ method: 'POST', url: '/orders' })
  await registryOf(app).flush(PATIENCE_MS)
  const { destinations } = await ask(app, 'delivery')
  t.match(destinations, [
    { signal: 'lines', to: "the application's stream" },
    { signal: 'spans', to: collector.url, produced: 6 }
  ])
  for (const { produced, delivered, dropped, waiting } of destinations) {
    const lost = Object.values<number>(dropped).reduce((sum, count) => sum + count, 0)
    t.equal(produced, delivered + lost + waiting)
  }
})

test('shows each option with its value and where it comes from', async (t) => {
  const { app } = await startService(t, {
    given: { metrics: { path: '/numbers' }, sentry: { dsn: 'https://key@host/1' } }
  })
  const { options, notices, instrumentation } = await ask(app, 'setup')
  const option = (part: string, name: string) =>
    options.find((row: { part: string; option: string }) => row.part === part && row.option === name)
  t.match(option('metrics', 'path'), { value: '/numbers', from: 'option' })
  t.match(option('sentry', 'dsn'), { value: '[redacted]', from: 'option' })
  t.match(option('metrics', 'maxSeries'), { value: '2000', from: 'default' })
  t.match(option('requestId', 'header'), { value: 'x-request-id', from: 'default' })
  t.match(instrumentation, [
    { what: 'instrumented', names: /^http, undici/ },
    { what: /^(one copy|copies) of @opentelemetry\/api$/, names: /^1\./ }
  ])
  t.match(notices, [{ message: /^tracing: no OTLP endpoint/ }, { message: /^tracing: instrumented/ }])
})

test('the list of options is what the parts and the umbrella document', async (t) => {
  t.same(JSON.parse(readFileSync(CATALOGUE, 'utf8')), readCatalogue(), 'run node packages/devtools/test/catalogue.ts')
})

test('links to other tools by their templates', async (t) => {
  const { app } = await startService(t, { links: { Jaeger: 'http://localhost:16686/trace/{trace_id}' } })
  await app.inject('/ok')
  const { links, traceId } = await ask(app, 'requests/1')
  t.same(links, [{ name: 'Jaeger', url: `http://localhost:16686/trace/${traceId}` }])
  await t.rejects(startService(t, { links: { Bad: 'javascript:alert(1)' } }), /option "links.Bad" must be/)
})
