import { startIngest } from '@fastify-observability/testing/ingest'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions, type SentryOptions } from '../src/index.ts'

/** `planted-1-`, `planted-2-` …: each stands where only a secret stands, and in no other place. */
function planter() {
  let planted = 0
  return { plant: () => `planted-${++planted}-`, count: () => planted }
}

// A token that is known by its form, wherever it stands.
const jwt = (text: string) => `eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx${text}In0.c2lnbmF0dXJl${text}`

async function service(t: Test, options: Omit<ObservabilityOptions, 'sentry'> & { sentry?: SentryOptions }) {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  const logging = { stream: { write: () => undefined }, format: 'json', level: 'trace' } as const
  const sentry = { dsn: ingest.dsn, tracesSampleRate: 1, ...options.sentry }
  await app.register(observability, { logging, ...options, sentry })
  return { app, ingest }
}

function defineRoute(app: FastifyInstance, plant: () => string): void {
  app.post('/orders/:token', async (request, reply) => {
    const password = plant()
    const credentials = { apiKey: plant(), password }
    request.log.info(`signing in with password=${plant()}`)
    request.log.info({ authorization: plant(), card: { cvv: plant() } }, 'fields')
    request.log.warn(new Error(`refused: client_secret=${plant()}`), `Bearer ${jwt(plant())}`)
    console.debug(`access_token=${plant()}`, { refreshToken: plant() })
    Sentry.addBreadcrumb({
      message: `GET https://user:${plant()}@host/`,
      data: { 'x-api-key': plant(), deep: [{ passcode: plant() }] }
    })
    Sentry.setTag('session_token', plant())
    Sentry.setExtra('database', { url: `postgres://app:${plant()}@db/orders`, dbPassword: plant() })
    Sentry.setContext('payment', { card_number: plant(), note: `secret: ${plant()}` })
    reply.header('set-cookie', `session=${plant()}`)
    const cause = new AggregateError([new Error(`api_key=${plant()}`)], `token: "${plant()}"`)
    const root = new Error(`cannot reach https://api.test/?access_token=${plant()}`, { cause })
    throw Object.assign(new Error(`{"password":"${plant()}"} for ${jwt(plant())}`, { cause: root }), { credentials })
  })
  app.get('/object', async () => {
    throw { password: plant(), nested: { secret: plant() } }
  })
}

/** Sends two requests full of secrets, on a socket. */
async function attack(app: FastifyInstance, plant: () => string): Promise<void> {
  const origin = await app.listen({ port: 0 })
  const names = ['authorization', 'proxy-authorization', 'x-api-key', 'x-auth-token', 'x-csrf-token', 'x-forwarded-for']
  const cookies = ['session', 'sid', 'csrf', 'refresh_token'].map((name) => `${name}=${plant()}`)
  const headers = Object.fromEntries(names.map((name) => [name, plant()]))
  const keys = ['token', 'api_key', 'password', 'code', 'signature']
  const query = keys.map((key) => `${key}=${plant()}`).join('&')
  const fields = ['password', 'cardNumber', 'cvv', 'iban', 'email', 'ssn'].map((field) => [field, plant()])
  const answer = await fetch(`${origin}/orders/${jwt(plant())}?${query}`, {
    method: 'POST',
    headers: { ...headers, cookie: cookies.join('; '), 'content-type': 'application/json' },
    body: JSON.stringify(Object.fromEntries(fields))
  })
  await answer.text()
  await (await fetch(`${origin}/object?secret=${plant()}`)).text()
}

for (const [title, options] of [
  ['with OpenTelemetry', {}],
  ['with spans of its own', { tracing: false }]
] satisfies [string, ObservabilityOptions][]) {
  test(`sends none of 48 planted secrets, ${title}`, async (t) => {
    const { plant, count } = planter()
    const { app, ingest } = await service(t, options)
    defineRoute(app, plant)
    await attack(app, plant)
    await app.close()
    t.equal(count(), 48)
    t.equal(ingest.events.length, 2)
    t.equal(
      ingest.items.some(({ type }) => type === 'span'),
      'tracing' in options
    )
    t.same(ingest.envelopes.join('').match(/planted-\d+-/g) ?? [], [])
  })
}

const OPEN: Sentry.NodeOptions['dataCollection'] = {
  cookies: true,
  httpHeaders: true,
  urlQueryParams: true,
  httpBodies: ['incomingRequest']
}

test('would send them otherwise', async (t) => {
  const { plant } = planter()
  const { app, ingest } = await service(t, { sentry: { scrub: false, sdk: { dataCollection: OPEN } } })
  defineRoute(app, plant)
  await attack(app, plant)
  await app.close()
  const sent = new Set(ingest.envelopes.join('').match(/planted-\d+-/g))
  t.ok(sent.size >= 25, `${sent.size} of 48`)
})

test('sends all that the options of the SDK open, but for what the logs would take out', async (t) => {
  const { app, ingest } = await service(t, { sentry: { sdk: { dataCollection: OPEN } } })
  app.post('/', async () => Promise.reject(new Error('boom')))
  const headers = { 'x-tenant': 'acme', authorization: 'planted', cookie: 'theme=dark' }
  await app.inject({ method: 'POST', url: '/?q=1', headers, payload: { order: 7, password: 'planted' } })
  await app.close()
  t.match(ingest.events[0]?.request, {
    headers: { 'x-tenant': 'acme' },
    query_string: 'q=1',
    data: { order: 7, password: '[redacted]' }
  })
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('leaves out of a query its first parameter too, where the options of the SDK open queries', async (t) => {
  const { app, ingest } = await service(t, { sentry: { sdk: { dataCollection: OPEN } } })
  app.get('/', async () => Promise.reject(new Error('boom')))
  await app.inject('/?code=planted&scope=openid')
  await app.close()
  t.equal(ingest.events[0]?.request?.query_string, 'code=[redacted]&scope=openid')
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('leaves out what a user, a list of headers and a key have below the surface', async (t) => {
  const { app, ingest } = await service(t, {})
  app.get('/', async () => {
    Sentry.setUser({ id: '7', profile: { name: 'Ann', apiKey: 'planted' } })
    Sentry.setExtra('rawHeaders', ['host', 'a', 'cookie', 'planted'])
    Sentry.setExtra('pairs', [['authorization', 'planted']])
    Sentry.setExtra('fields', [{ name: 'password', value: 'planted' }])
    Sentry.setExtra('asked', { 'token=planted': 1 })
    throw new Error('boom')
  })
  await app.inject('/')
  await app.close()
  t.same(ingest.events[0]?.user, { id: '7', profile: { name: 'Ann', apiKey: '[redacted]' } })
  t.notMatch(ingest.envelopes.join(''), 'planted')
})

test('sends texts as they are without scrubbing', async (t) => {
  const { app, ingest } = await service(t, { sentry: { scrub: false } })
  app.get('/', async () => Promise.reject(new Error('password=planted')))
  await app.inject('/')
  await app.close()
  t.equal(ingest.events[0]?.exception?.values[0]?.value, 'password=planted')
})

test('scrubs what a beforeSend adds', async (t) => {
  const beforeSend = (event: Sentry.ErrorEvent) => ({ ...event, message: 'token=planted', extra: { kept: 1 } })
  const { app, ingest } = await service(t, { sentry: { sdk: { beforeSend } } })
  app.get('/', async () => Promise.reject(new Error('boom')))
  await app.inject('/')
  await app.close()
  t.match(ingest.events[0], { message: 'token=[redacted]', extra: { kept: 1 } })
})
