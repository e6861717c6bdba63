import { startCollector } from '@fastify-observability/testing/collector'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability, { currentObservation, type FieldValue, type ObservabilityOptions } from '../src/index.ts'

/** What line, span and event say of a request that fails after it has added the fields. */
async function failing(t: Test, fields: object, options: ObservabilityOptions = {}) {
  const [collector, ingest] = await Promise.all([startCollector(), startIngest()])
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  const lines: string[] = []
  const app = Fastify()
  await app.register(observability, {
    logging: { stream: { write: (line) => void lines.push(line) }, ...Object(options.logging) },
    tracing: { endpoint: collector.url },
    sentry: { dsn: ingest.dsn, tagFields: ['plan'] }
  })
  const load = async (): Promise<void> => {
    await null
    currentObservation()?.add(Object(fields))
  }
  app.get('/boom', async () => {
    await load()
    throw new Error('boom')
  })
  app.get('/fine', async () => load())
  await app.inject('/boom')
  await app.inject('/fine')
  const { body: metrics } = await app.inject('/metrics')
  await app.close()
  const [boom, fine] = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'request completed')
  const spanOf = (named: string) => collector.spans.find(({ name }) => name === named)
  return {
    boom,
    fine,
    span: spanOf('GET /boom'),
    fineSpan: spanOf('GET /fine'),
    event: ingest.events[0],
    metrics,
    all: JSON.stringify([lines, collector.spans, ingest.events])
  }
}

test('one add three awaits deep gives line, span and event the same value', async (t) => {
  const fields = { 'user.id': 7, plan: 'pro', flags: ['a', 'b'], note: null }
  const { boom, fine, span, fineSpan, event } = await failing(t, fields)
  t.match(boom, fields)
  t.match(fine, fields)
  for (const { attributes } of [span, fineSpan].map(Object))
    t.match(attributes, { 'user.id': 7, plan: 'pro', flags: ['a', 'b'] })
  t.match(event?.contexts, { fields: { 'user.id': 7, plan: 'pro', flags: ['a', 'b'] } })
  t.match(event?.tags, { plan: 'pro' })
  t.notOk('user.id' in (event?.tags ?? {}))
})

test('keeps secrets among the fields out of line, span and event', async (t) => {
  const secrets = {
    password: 'planted-1',
    note: 'token=planted-2',
    api_key: 'planted-3',
    list: ['Bearer planted4planted4'],
    pin: { secret: [471147114711] },
    access_token: 471147114711
  }
  const { all, boom } = await failing(t, secrets)
  t.notMatch(all, /planted|4711/)
  t.equal(boom.password, '[redacted]')
})

test('knows fields by their names, whatever the request before has added at their places', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const lines: string[] = []
  const app = Fastify()
  const logging = { stream: { write: (line: string) => void lines.push(line) } }
  await app.register(observability, { logging, tracing: { endpoint: collector.url } })
  const fieldsOf: Record<string, FieldValue>[] = [
    { plan: 'pro', items: 3, at: 'x' },
    { items: 3, plan: 'pro', at: 'x' },
    { password: 'planted', 'é"': 1, plan: 'pro' },
    { plan: 'pro', password: 'planted', at: 'x' },
    Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`field${index}`, index])),
    Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`field${63 - index}`, index])),
    {}
  ]
  app.get<{ Params: { index: number } }>('/:index', async ({ params: { index }, observation }) => {
    observation.add(fieldsOf[index] ?? {})
  })
  const order = fieldsOf.flatMap((_, first) => fieldsOf.flatMap((_, second) => [first, second]))
  for (const index of order) await app.inject(`/${index}`)
  await app.close()
  const names = new Set(fieldsOf.flatMap(Object.keys))
  const added = (all: object) => Object.fromEntries(Object.entries(all).filter(([name]) => names.has(name)))
  const wanted = order.map((index) => ({
    ...fieldsOf[index],
    ...('password' in (fieldsOf[index] ?? {}) && { password: '[redacted]' })
  }))
  const completed = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'request completed')
  t.strictSame(completed.map(added), wanted)
  t.strictSame(
    collector.spans.map(({ attributes }) => added(attributes)),
    wanted
  )
})

test('lets no field take a name of the suite’s own', async (t) => {
  const { boom, span, metrics } = await failing(t, {
    status_code: 1,
    'http.route': '/x',
    err: 'none',
    request_id: 'forged'
  })
  t.match(boom, { status_code: 500, err: { message: 'boom' } })
  t.not(boom.request_id, 'forged')
  t.equal(span?.attributes['http.route'], '/boom')
  t.match(metrics, /^observability_fields_dropped_total\{reason="reserved"\} 8$/m)
})

test('writes the same fields where pino writes the line', async (t) => {
  const fields = { a: 'é\u2028"', b: -0, c: 1e21, d: ['x'], e: false, password: 'x', 'é\u2028': 1, n: null }
  const { fine: plain } = await failing(t, {})
  const own = await failing(t, fields)
  const pinos = await failing(t, fields, { logging: { levelFor: () => 'debug' } })
  const added = (line: object) => Object.entries(line).filter(([name]) => !(name in plain))
  t.same(added(own.fine), added(pinos.fine))
  t.equal(added(own.fine).length, 8)
})

test('reserves the names of the parts that are there', async (t) => {
  const app = Fastify()
  await app.register(observability, { tracing: false, sentry: false, logging: { stream: { write() {} } } })
  app.get('/', async (request) => {
    request.observation.add({ 'http.route': 'free', plan: 'pro' })
    return [...request.observation.fields.keys()]
  })
  t.same((await app.inject('/')).json(), ['http.route', 'plan'])
})
