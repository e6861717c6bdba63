import { once } from 'node:events'
import http, { type IncomingHttpHeaders } from 'node:http'
import { json } from 'node:stream/consumers'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import observation from '@fastify-observability/observation'
import { createRedactor, type Redactor, registryOf, runInBackground } from '@fastify-observability/observation/internal'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { SpanKind, trace } from '@opentelemetry/api'
import { type ReadableSpan, type SpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import tracing, { withSpan } from '../src/index.ts'
import { scrubSpans } from '../src/processing/scrubber.ts'
import { named, spansOf, TRACE_ID, traced, withEnv } from './traced.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

/** A service that answers with the headers it got. */
async function peer(t: Test): Promise<string> {
  const server = http.createServer(({ headers }, response) => response.end(JSON.stringify(headers))).listen(0)
  await once(server, 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' && address?.port}`
}

function calling(url: string): (app: FastifyInstance) => void {
  return (app) => {
    app.get('/fetch', async () => (await fetch(url)).json())
    app.get('/http', async (): Promise<IncomingHttpHeaders> => {
      const [response] = await once(http.get(url), 'response')
      return Object(await json(response))
    })
  }
}

test('leaves secrets out of the spans of outgoing calls', async (t) => {
  const url = await peer(t)
  const { app, collector } = await traced(t, calling(`${url}/charges?api_key=planted&order=7#x`))
  for (const route of ['/fetch', '/http']) t.equal((await app.inject(route)).statusCode, 200)
  const clients = (await spansOf(app, collector)).filter(({ kind }) => kind === 'CLIENT')
  t.equal(clients.length, 2)
  for (const { attributes } of clients) {
    t.match(attributes['url.full'], /\/charges\?api_key=\S*(?:redacted|REDACTED)\S*&order=7/)
    t.notMatch(JSON.stringify(attributes), 'planted')
  }
  const [query] = clients.flatMap(({ attributes }) => attributes['url.query'] ?? [])
  t.equal(query, 'api_key=[redacted]&order=7')
})

test('leaves the code and the state of OAuth out of its callback and out of the call that redeems them', async (t) => {
  const url = await peer(t)
  const query = 'code=planted&state=planted&pin=planted&assertion=planted&key=planted&scope=openid'
  const { app, collector } = await traced(t, calling(`${url}/token?${query}`))
  for (const route of ['/fetch', '/http']) t.equal((await app.inject(`${route}?${query}`)).statusCode, 200)
  const spans = await spansOf(app, collector)
  t.equal(spans.length, 4)
  t.notMatch(JSON.stringify(spans), 'planted')
  for (const { kind, attributes } of spans)
    t.match(attributes[kind === 'SERVER' ? 'url.query' : 'url.full'], 'scope=openid')
})

test('leaves secrets out of what the application puts on spans', async (t) => {
  const { app, collector } = await traced(t)
  withSpan('mine', { password: 'planted', api_key: 4711, note: ['token=planted', 'fine'], count: 3 }, (span) => {
    span.addEvent('login', { 'http.request.header.authorization': 'planted', detail: 'secret: planted' })
    span.addEvent('retried with password=planted')
    span.setStatus({ code: 2, message: `refused: password=planted ${'x'.repeat(10_000)}` })
  })
  const [span] = await spansOf(app, collector)
  t.equal(span?.events[1]?.name, 'retried with password=[redacted]')
  t.match(span?.statusMessage, /^refused: password=\[redacted\] x+$/)
  t.equal(span?.statusMessage.length, 4096)
  t.same(span?.attributes, {
    password: '[redacted]',
    api_key: '[redacted]',
    note: ['token=[redacted]', 'fine'],
    count: 3
  })
  t.same(span?.events[0]?.attributes, {
    'http.request.header.authorization': '[redacted]',
    detail: 'secret: [redacted]'
  })
})

test('goes by the rules of the logs, where those are others, and keeps names that no list can know', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  for (const rules of [{ redact: ['licence'] }, { redact: ['licence'], allow: ['order'] }]) {
    const app = Fastify()
    await app.register(observation)
    registryOf(app).redactor = createRedactor(rules)
    await app.register(tracing, { endpoint: collector.url, shutdownTimeoutMs: PATIENCE_MS })
    app.get('/', async ({ span }) => {
      span?.setAttribute('licence', 'planted')
      throw new Error('licence=planted')
    })
    await app.inject('/?licence=planted')
    await app.close()
  }
  t.equal(collector.spans.length, 2)
  t.notMatch(JSON.stringify(collector.spans), 'planted')
  t.match(collector.spans[1]?.attributes, { 'url.path': '/', 'error.type': 'Error' })
})

test('leaves out what a neighbour names: in pairs of headers, raw headers and lists of fields', async (t) => {
  const { app, collector } = await traced(t)
  const held: object = {
    pair: ['authorization', 'planted'],
    pairs: [['x-api-key', 'planted']],
    rawHeaders: ['host', 'a', 'cookie', 'planted'],
    fields: [{ name: 'password', value: 'planted' }],
    keyed: { 'token=planted': 1 }
  }
  withSpan('mine', Object(held), () => undefined)
  const [span] = await spansOf(app, collector)
  t.notMatch(JSON.stringify(span), 'planted')
  t.same(span?.attributes.rawHeaders, ['host', 'a', 'cookie', '[redacted]'])
})

test('leaves the arguments out of the commands of Redis, and secrets out of queries in JSON', async (t) => {
  const { app, collector } = await traced(t)
  const redis = 'MULTI\nAUTH default planted\nSET session:1 planted'
  withSpan('redis', { 'db.system.name': 'redis', 'db.query.text': redis }, () => undefined)
  const json = '{"find":"users","filter":{"password":"planted","age":7}}'
  withSpan('mongo', { 'db.system': 'mongodb', 'db.statement': json }, () => undefined)
  const spans = await spansOf(app, collector)
  t.equal(named(spans, 'redis').attributes['db.query.text'], 'MULTI\nAUTH ?\nSET ?')
  t.equal(
    named(spans, 'mongo').attributes['db.statement'],
    '{"find":"users","filter":{"password":"[redacted]","age":?}}'
  )
})

test('leaves the values out of the statements of any instrumentation', async (t) => {
  const { app, collector } = await traced(t)
  withSpan('query', { 'db.query.text': "SELECT * FROM users WHERE card = '4111' AND id = 7" }, () => undefined)
  withSpan('old', { 'db.statement': "INSERT INTO t VALUES ('planted', 1.5)" }, () => undefined)
  const mySql = 'SELECT * FROM `users` WHERE card = "4111" # it\'s\nAND id = 7'
  withSpan('mysql', { 'db.system.name': 'mysql', 'db.query.text': mySql }, () => undefined)
  const spans = await spansOf(app, collector)
  t.equal(named(spans, 'mysql').attributes['db.query.text'], 'SELECT * FROM `users` WHERE card = ? AND id = ?')
  t.equal(named(spans, 'query').attributes['db.query.text'], 'SELECT * FROM users WHERE card = ? AND id = ?')
  t.equal(named(spans, 'old').attributes['db.statement'], 'INSERT INTO t VALUES (?, ?)')
})

test('cuts long attributes and drops those past 128', async (t) => {
  const { app, collector } = await traced(t)
  const many = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`key.${index}`, index]))
  withSpan('long', { text: 'x'.repeat(100_000) }, (span) => span.addEvent('e', { text: 'y'.repeat(100_000) }))
  withSpan('many', many, () => undefined)
  const spans = await spansOf(app, collector)
  t.equal(String(named(spans, 'long').attributes.text).length, 4096)
  t.equal(String(named(spans, 'long').events[0]?.attributes.text).length, 4096)
  t.equal(Object.keys(named(spans, 'many').attributes).length, 128)
})

test('takes other limits from the standard variables', async (t) => {
  withEnv(t, { OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: '5', OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: '2' })
  const { app, collector } = await traced(t)
  withSpan('short', { a: 'abcdefgh', b: 1, c: 2 }, () => undefined)
  t.match(await spansOf(app, collector), [{ attributes: { a: 'abcde', b: 1, c: undefined } }])
})

test('propagateTo limits which hosts get the trace, recorded or not, over fetch and http', async (t) => {
  const url = await peer(t)
  for (const sampleRatio of [0, 1]) {
    for (const [propagateTo, carried] of [
      [[], false],
      [['example.com', /^10\./], false],
      [['127.0.0.1'], true]
    ] as const) {
      const { app } = await traced(t, calling(url), { sampleRatio, propagateTo: [...propagateTo], baggage: true })
      for (const route of ['/fetch', '/http']) {
        const sent = (await app.inject({ url: route, headers: { baggage: 'tenant=7', tracestate: 'a=b' } })).json()
        t.equal('traceparent' in sent, carried, `${route} to ${propagateTo} at ${sampleRatio}`)
        t.equal('baggage' in sent, carried)
      }
      await app.close()
    }
  }
})

test('a host that may have the trace gets it below a call to one that may not', async (t) => {
  const url = await peer(t)
  const options = { kind: SpanKind.CLIENT, attributes: { 'server.address': 'payments.internal' } }
  const declare = (app: FastifyInstance): void => {
    app.get('/', () =>
      trace.getTracer('test').startActiveSpan('charge', options, async (span) => {
        const headers = await (await fetch(url)).json()
        span.end()
        return headers
      })
    )
  }
  const { app } = await traced(t, declare, { propagateTo: ['127.0.0.1'] })
  t.match((await app.inject('/')).json(), { traceparent: String })
})

test('keeps the client span of a call that does not get the trace', async (t) => {
  const url = await peer(t)
  const { app, collector } = await traced(t, calling(url), { propagateTo: [] })
  await app.inject('/fetch')
  const spans = await spansOf(app, collector)
  const client = spans.find(({ kind }) => kind === 'CLIENT')
  t.equal(client?.parentSpanId, named(spans, 'GET /fetch').spanId)
})

test('the server span is the active one in the handler', async (t) => {
  const { app, collector } = await traced(t, (app) => {
    app.get('/', async ({ span }) => trace.getActiveSpan() === span)
  })
  t.equal((await app.inject('/')).body, 'true')
  await spansOf(app, collector)
})

test('traces nothing that runs in the background', async (t) => {
  await traced(t)
  const isRecording = (): boolean => trace.getTracer('test').startSpan('delivery').isRecording()
  t.same([isRecording(), runInBackground(isRecording)], [true, false])
})

/** Spans that are scrubbed by what `redactor` returns at that moment. */
function scrubbed(redactor: () => Redactor) {
  const ended: ReadableSpan[] = []
  const next: SpanProcessor = {
    onStart: () => undefined,
    onEnd: (span) => void ended.push(span),
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  }
  const tracer = new TracerProvider({ spanProcessors: [scrubSpans(redactor, [next])] }).getTracer('test')
  return { tracer, ended }
}

test('cleans by the redactor that is in force, links too', async (t) => {
  let redactor = createRedactor()
  const { tracer, ended } = scrubbed(() => redactor)
  const links = [{ context: { traceId: TRACE_ID, spanId: 'b'.repeat(16), traceFlags: 1 }, attributes: { pet: 'rex' } }]
  const spanOf = () => tracer.startSpan('a', { attributes: { pet: 'rex' }, links }).end()
  spanOf()
  redactor = createRedactor({ redact: ['pet'] })
  spanOf()
  const seen = ended.map(({ attributes, links: [link] }) => [attributes.pet, link?.attributes?.pet])
  t.same(seen, [
    ['rex', 'rex'],
    ['[redacted]', '[redacted]']
  ])
})

test('cleans added fields by the redactor that is in force', async (t) => {
  const { app, collector } = await traced(t)
  app.get('/pets', async ({ observation }) => observation.add({ pet: 'rex' }))
  await app.inject('/pets')
  registryOf(app).redactor = createRedactor({ redact: ['pet'] })
  await app.inject('/pets')
  const spans = await spansOf(app, collector)
  t.same(
    spans.map(({ attributes }) => attributes.pet),
    ['rex', '[redacted]']
  )
})

test('remembers no more than some hundreds of attributes', async (t) => {
  const redactor = createRedactor()
  const { tracer, ended } = scrubbed(() => redactor)
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  for (let number = 0; number < 50_000; number++) {
    tracer.startSpan('a', { attributes: { [`an attribute ${number}`]: 'x' } }).end()
    ended.pop()
  }
  collectGarbage()
  t.ok(process.memoryUsage().heapUsed - before < 4_000_000)
  tracer.startSpan('a').end()
})
