import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createRedactor, registryOf } from '@fastify-observability/observation/internal'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import sentry, { type SentryOptions } from '../src/index.ts'
import { scrubEvent } from '../src/scrub.ts'
import { closeSent } from './closing.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

const refuse = (): never => {
  throw new Error('hands off')
}
const hostile = new Proxy({}, { get: refuse, has: refuse, getPrototypeOf: refuse, ownKeys: refuse })

function countsOf(app: FastifyInstance, name: string): unknown[] {
  return registryOf(app).published.flatMap((series) => (series.name === name ? Array.from(series.collect()) : []))
}

async function service(t: Test, options: SentryOptions = {}) {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, {
    dsn: ingest.dsn,
    service: { name: 'shop', version: '1.2.3', environment: 'test' },
    tracesSampleRate: 0,
    ...options
  })
  t.teardown(() => app.close())
  app.get('/orders/:id', async () => Promise.reject(new TypeError('boom')))
  app.get('/gone', async () => Promise.reject(Object.assign(new Error('gone'), { statusCode: 404 })))
  app.get('/500', async (_request, reply) => reply.code(500).send('no exception'))
  return { app, ingest }
}

test('sends an event for an exception that ended in a 5xx', async (t) => {
  const { app, ingest } = await service(t)
  t.equal((await app.inject('/orders/7')).statusCode, 500)
  await closeSent(app)
  t.match(ingest.events, [
    {
      transaction: 'GET /orders/:id',
      environment: 'test',
      release: 'shop@1.2.3',
      tags: { request_id: 'req-1' },
      exception: { values: [{ type: 'TypeError', value: 'boom', mechanism: { handled: false } }] }
    }
  ])
  t.equal(ingest.events.length, 1)
})

test('sends none for a 4xx or for a 500 without an exception', async (t) => {
  const { app, ingest } = await service(t)
  for (const url of ['/gone', '/500', '/nowhere']) await app.inject(url)
  await closeSent(app)
  t.same(ingest.events, [])
})

test('decides by the final status, not by what was thrown', async (t) => {
  const { app, ingest } = await service(t)
  app.register(async (scope: FastifyInstance) => {
    scope.setErrorHandler((_error, _request, reply) => reply.code(404).send())
    scope.get('/mapped', async () => Promise.reject(new Error('domain error')))
  })
  t.equal((await app.inject('/mapped')).statusCode, 404)
  await closeSent(app)
  t.same(ingest.events, [])
})

test('sends neither body, cookies, headers nor query, nor secrets in messages, causes and breadcrumbs', async (t) => {
  const { app, ingest } = await service(t)
  app.post('/orders', async () => {
    console.debug('token=planted-console')
    throw new Error('password=planted-message', { cause: new Error('secret=planted-cause') })
  })
  await app.inject({
    method: 'POST',
    url: '/orders?token=planted-query',
    headers: { authorization: 'planted-header', cookie: 'session=planted-cookie' },
    payload: { password: 'planted-body' }
  })
  await closeSent(app)
  t.equal(ingest.events.length, 1)
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('sends an event for a 500 without an exception where it is asked for', async (t) => {
  const { app, ingest } = await service(t, { captureWithoutException: true })
  await app.inject('/500')
  await closeSent(app)
  t.match(ingest.events, [{ message: 'GET /500 answered 500', transaction: 'GET /500', tags: { status_code: 500 } }])
  t.equal(ingest.events.length, 1)
})

test('lets the application decide what is captured, by how the request ended', async (t) => {
  const shouldCapture: SentryOptions['shouldCapture'] = ({ statusCode }, { route }) =>
    statusCode === 404 && route === '/gone'
  const { app, ingest } = await service(t, { shouldCapture })
  for (const url of ['/orders/7', '/gone', '/nowhere']) await app.inject(url)
  await closeSent(app)
  t.match(ingest.events, [{ transaction: 'GET /gone', tags: { status_code: 404 } }])
  t.equal(ingest.events.length, 1)
})

test('decides and identifies without functions that throw', async (t) => {
  const thrower = (): never => {
    throw new Error('not today')
  }
  const { app, ingest } = await service(t, { shouldCapture: thrower, user: thrower })
  for (const url of ['/orders/7', '/gone']) await app.inject(url)
  await closeSent(app)
  t.match(ingest.events, [{ transaction: 'GET /orders/:id', user: undefined }])
  t.equal(ingest.events.length, 1)
})

test('sends the user that the application has set while the request ran', async (t) => {
  const { app, ingest } = await service(t)
  app.get('/me', async () => {
    Sentry.setUser({ id: 'u-1' })
    await new Promise(setImmediate)
    throw new Error('boom')
  })
  for (const url of ['/me', '/orders/7']) await app.inject(url)
  await closeSent(app)
  const users = ingest.events.map(({ transaction, user }) => `${transaction} ${user?.id}`)
  t.same(users.sort(), ['GET /me u-1', 'GET /orders/:id undefined'])
})

test('keeps apart what two requests report to Sentry at the same time', async (t) => {
  const { app, ingest } = await service(t)
  const both = Promise.withResolvers<void>()
  app.get<{ Params: { id: string } }>('/told/:id', async ({ params: { id } }) => {
    Sentry.setUser({ id })
    Sentry.setTag('asked', id)
    Sentry.addBreadcrumb({ message: `crumb of ${id}` })
    if (id === 'b') both.resolve()
    await both.promise
    Sentry.captureException(new Error(`captured by ${id}`))
    throw new Error(`thrown by ${id}`)
  })
  for (const urls of [['/told/a', '/told/b'], ['/orders/7']]) await Promise.all(urls.map((url) => app.inject(url)))
  await closeSent(app)
  const told = ingest.events.map(({ exception, user, tags, breadcrumbs }) =>
    [exception?.values[0]?.value, user?.id, tags?.asked, ...(breadcrumbs ?? []).map(({ message }) => message)].join()
  )
  const expected = ['captured', 'thrown'].flatMap((what) =>
    ['a', 'b'].map((id) => `${what} by ${id},${id},${id},crumb of ${id}`)
  )
  t.same(told.sort(), ['boom,,', ...expected])
})

test('adds to an event of a request what the process has told Sentry', async (t) => {
  const { app, ingest } = await service(t)
  Sentry.setTag('region', 'north')
  t.teardown(() => Sentry.setTag('region', undefined))
  await app.inject('/orders/7')
  await closeSent(app)
  t.match(ingest.events, [{ tags: { region: 'north', request_id: 'req-1' } }])
})

test('names the event in the body of the answer where it is asked for', async (t) => {
  const { app, ingest } = await service(t, { eventIdInBody: true })
  const answers = await Promise.all(['/orders/7', '/gone', '/500'].map((url) => app.inject(url)))
  await closeSent(app)
  const sentry_event_id = ingest.events[0]?.event_id
  t.same(answers[0]?.json(), { statusCode: 500, error: 'Internal Server Error', message: 'boom', sentry_event_id })
  t.same(Number(answers[0]?.headers['content-length']), answers[0]?.body.length)
  t.notMatch([answers[1]?.body, answers[2]?.body], 'sentry_event_id')
  t.equal(ingest.events.length, 1)
})

test('sends whatever is thrown', async (t) => {
  const { app, ingest } = await service(t)
  const thrown: unknown[] = [null, 'text', 7, { password: 'planted' }, Object.freeze(new Error('frozen'))]
  for (const [index, value] of thrown.entries()) app.get(`/${index}`, async () => Promise.reject(value))
  for (const index of thrown.keys()) t.equal((await app.inject(`/${index}`)).statusCode, 500)
  await closeSent(app)
  t.same(
    ingest.events.map(({ transaction }) => transaction).sort(),
    Array.from(thrown.keys(), (index) => `GET /${index}`)
  )
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('counts an error that cannot be read, and answers its request', async (t) => {
  const { app } = await service(t, { shouldCapture: () => true })
  app.get('/', async () => Promise.reject(hostile))
  await app.inject('/')
  await app.close()
  t.same(countsOf(app, 'sentry_events_dropped_total'), [[{ reason: 'unreadable' }, 1]])
})

test('counts an error whose cause cannot be read, and closes at once', async (t) => {
  const { app, ingest } = await service(t)
  app.get('/:key', async ({ params }) => {
    throw Object.defineProperty(new Error('boom'), (params as { key: string }).key, { get: refuse })
  })
  for (const key of ['cause', 'stack']) await app.inject(`/${key}`)
  t.equal(await Sentry.flush(PATIENCE_MS), true)
  await app.close()
  t.same(ingest.events, [])
  t.same(countsOf(app, 'sentry_events_dropped_total'), [[{ reason: 'unreadable' }, 2]])
})

test('cleans the events of each app by its own rules', async (t) => {
  const { app, ingest } = await service(t)
  const other = Fastify()
  await other.register(sentry, { dsn: ingest.dsn })
  registryOf(other).redactor = createRedactor({ redact: ['loyalty_number'] })
  other.get('/', async () => Promise.reject(new Error('loyalty_number=planted')))
  await other.inject('/')
  await Promise.all([other, app].map(closeSent))
  t.equal(ingest.events.length, 1)
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('sends an event for each request that one error object fails, and counts a refusal once', async (t) => {
  const { app, ingest } = await service(t, { eventIdInBody: true, maxEqualEventsPerMinute: 3 })
  const constant = new Error('constant')
  app.get('/', async () => Promise.reject(constant))
  const answers = await Promise.all(Array.from({ length: 4 }, () => app.inject('/')))
  await closeSent(app)
  const ids = answers.flatMap((answer) => answer.json().sentry_event_id ?? [])
  t.same(new Set(ingest.events.map(({ event_id }) => event_id)), new Set(ids))
  t.equal(ids.length, 3)
  t.same(countsOf(app, 'sentry_events_dropped_total'), [[{ reason: 'fingerprint_limit' }, 1]])
})

test('names no event in the body that shouldCapture rejects, nor counts it for the limits', async (t) => {
  const shouldCapture: SentryOptions['shouldCapture'] = ({ error, errorType, statusCode }) =>
    error instanceof Error && error.message !== 'known' && errorType === 'Error' && statusCode === 500
  const { app, ingest } = await service(t, { eventIdInBody: true, shouldCapture, maxEventsPerMinute: 1 })
  for (const message of ['known', 'real']) app.get(`/${message}`, async () => Promise.reject(new Error(message)))
  const known = await Promise.all([app.inject('/known'), app.inject('/known')])
  t.notMatch(
    known.map(({ body }) => body),
    'sentry_event_id'
  )
  const { sentry_event_id } = (await app.inject('/real')).json()
  await closeSent(app)
  t.match(ingest.events, [{ event_id: sentry_event_id }])
})

test('leaves the rest of the body as it is', async (t) => {
  const { app } = await service(t, { eventIdInBody: true })
  app.setErrorHandler((_error, request, reply) => {
    const body = request.url === '/empty' ? '{ }' : '{"n":12345678901234567890, "text":"}"}\n'
    return reply.code(500).type('application/json').send(body)
  })
  for (const path of ['/empty', '/full']) app.get(path, async () => Promise.reject(new Error(path)))
  const id = /"sentry_event_id":"[0-9a-f]{32}"\}$/
  const empty = (await app.inject('/empty')).body
  t.same([empty.replace(id, ''), id.test(empty)], ['{', true])
  const full = (await app.inject('/full')).body
  t.same([full.replace(id, ''), id.test(full)], ['{"n":12345678901234567890, "text":"}",', true])
})

test('sends of the user what is no secret', async (t) => {
  const row = { id: 7, email: 'ada@example.org', password_hash: 'planted', note: 'token=planted' }
  const { app, ingest } = await service(t, { user: () => row })
  await app.inject('/orders/7')
  await closeSent(app)
  t.match(ingest.events, [{ user: { id: 7, email: 'ada@example.org', password_hash: '[redacted]' } }])
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('removes secrets from transactions and logs too, where the SDK sends those', async (t) => {
  const { app, ingest } = await service(t, { tracesSampleRate: 1, sdk: { traceLifecycle: 'static' } })
  app.get('/', async () => {
    Sentry.logger.info('password=planted', { token: 'planted' })
    return Sentry.startSpan({ name: 'inner password=planted', attributes: { password: 'planted' } }, () => 'ok')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const address = app.server.address()
  await fetch(`http://127.0.0.1:${typeof address === 'object' && address?.port}/`)
  await closeSent(app)
  const sent = ingest.envelopes.join('')
  for (const text of ['inner password=[redacted]', '"body":"password=[redacted]"']) t.match(sent, text)
  t.notMatch(sent, 'planted')
})

test('collects nothing by itself, in any category that the SDK has', async (t) => {
  await service(t)
  t.same(Sentry.getClient()?.getDataCollectionOptions(), {
    userInfo: false,
    cookies: false,
    httpHeaders: { request: false, response: false },
    httpBodies: [],
    urlQueryParams: false,
    graphQL: { document: false, variables: false },
    genAI: { inputs: false, outputs: false },
    mcp: { inputs: false, outputs: false },
    databaseQueryData: false,
    queues: false,
    stackFrameVariables: false,
    frameContextLines: 0
  })
})

// This does not compile when a version of the SDK brings a category more: it collects by default.
type Collection = NonNullable<Sentry.NodeOptions['dataCollection']>
type Category<Of extends keyof Collection> = `${Of}.${keyof NonNullable<Collection[Of]> & string}`
type Nested = 'graphQL' | 'genAI' | 'mcp'
const CATEGORIES: Record<
  Exclude<keyof Collection, Nested> | Category<'graphQL'> | Category<'genAI'> | Category<'mcp'>,
  true
> = {
  userInfo: true,
  cookies: true,
  httpHeaders: true,
  httpBodies: true,
  urlQueryParams: true,
  'graphQL.document': true,
  'graphQL.variables': true,
  'genAI.inputs': true,
  'genAI.outputs': true,
  'mcp.inputs': true,
  'mcp.outputs': true,
  databaseQueryData: true,
  queues: true,
  stackFrameVariables: true,
  frameContextLines: true
}

test('sets every category of data that the SDK collects', async (t) => {
  await service(t)
  const collected: object = Sentry.getClient()?.getDataCollectionOptions() ?? {}
  const known = new Set(Object.keys(CATEGORIES).map((category) => category.split('.', 1)[0]))
  t.same(new Set(Object.keys(collected)), known)
})

test('does nothing without a DSN', async (t) => {
  const app = Fastify()
  await app.register(sentry)
  t.equal(app.hasDecorator('observation'), false)
})

test('takes DSN, environment and release from the standard variables', async (t) => {
  const variables = { SENTRY_ENVIRONMENT: 'staging', SENTRY_RELEASE: 'r1' }
  Object.assign(process.env, variables)
  t.teardown(() => {
    for (const name of Object.keys(variables)) delete process.env[name]
  })
  const { app, ingest } = await service(t)
  await app.inject('/orders/7')
  await closeSent(app)
  t.match(ingest.events, [{ environment: 'staging', release: 'r1' }])
})

test('shares one client among the apps of a process, until the last has closed', async (t) => {
  const { app, ingest } = await service(t)
  const other = Fastify()
  await other.register(sentry, { dsn: ingest.dsn })
  await other.close()
  await app.inject('/orders/7')
  await closeSent(app)
  t.equal(ingest.events.length, 1)
})

test('closes in time when Sentry is not there', async (t) => {
  const { app } = await service(t, { dsn: 'http://key@127.0.0.1:1/1' })
  t.equal((await app.inject('/orders/7')).statusCode, 500)
  const started = performance.now()
  await app.close()
  t.ok(performance.now() - started < STARVED_MS)
})

test('rejects invalid rates, counts and options', async (t) => {
  const wrong: [object, string][] = [
    [{ tracesSampleRate: 2 }, 'option "tracesSampleRate" must be a number from 0 to 1, got 2'],
    [{ maxEventsPerMinute: 0 }, 'option "maxEventsPerMinute" must be a positive whole number, got 0'],
    [{ user: 'u-1' }, `option "user" must be a function, got 'u-1'`],
    [{ beforeSend: 1 }, 'unknown option "beforeSend": allowed are']
  ]
  for (const [options, sentence] of wrong) {
    const error = await service(t, options).catch((error) => error)
    t.match(error.message, `@fastify-observability/sentry: ${sentence}`)
  }
})

test('rejects an invalid DSN', async (t) => {
  const name = '@fastify-observability/sentry'
  for (const dsn of ['sentry.io', 'https://sentry.io/1', 'https://key@sentry.io/']) {
    const shown = dsn.replace('key@', '[redacted]@')
    const sentence = `${name}: option "dsn" must be a DSN like https://key@host/1, got '${shown}'`
    await t.rejects(service(t, { dsn }), new TypeError(sentence))
  }
})

for (const [dsn, shown] of [
  ['disabled', "'disabled'"],
  ['https://s3cret@sentry.io/', 'its value']
] as const) {
  test(`stays off where SENTRY_DSN is "${dsn}", with a warning`, async (t) => {
    process.env.SENTRY_DSN = dsn
    t.teardown(() => delete process.env.SENTRY_DSN)
    const lines: string[] = []
    const app = Fastify({ logger: { stream: { write: (line: string) => void lines.push(line) } } })
    await app.register(sentry)
    const msg = `sentry: SENTRY_DSN must be a DSN like https://key@host/1, ${shown} is ignored`
    t.match(JSON.parse(lines[0] ?? '{}'), { level: 40, msg })
  })
}

test('cleans an event that contains itself', async (t) => {
  const extra: Record<string, unknown> = { password: 'planted' }
  extra.self = extra
  const event = scrubEvent({ extra }, createRedactor())
  t.match(event.extra, { password: '[redacted]', self: { password: '[redacted]' } })
})

test('holds fifty lines of a request for its event, however many it writes', async (t) => {
  const { app } = await service(t)
  app.get('/many', async ({ observation }) => {
    const line: unknown = Reflect.get(observation, 'onLine')
    collectGarbage()
    const before = process.memoryUsage().heapUsed
    for (let number = 0; number < 50_000; number++)
      Reflect.apply(Object(line), observation, ['info', `line ${number} `.padEnd(100, 'x')])
    collectGarbage()
    return process.memoryUsage().heapUsed - before
  })
  t.ok((await app.inject('/many')).json() < 4_000_000)
})
