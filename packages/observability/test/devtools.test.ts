import { registryOf } from '@fastify-observability/observation/internal'
import { withEnv } from '@fastify-observability/testing/environment'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ObservabilityOptions } from '../src/index.ts'

const PAGE = '/_observability'
const API = `${PAGE}/api/requests`

async function service(t: Test, options: ObservabilityOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, { logging: { level: 'silent' }, ...options })
  app.get('/ok', async (request) => {
    request.log.debug('found')
    return 'ok'
  })
  return app
}

for (const [environment, devtools, status] of [
  ['development', undefined, 200],
  ['development', false, 404],
  ['development', true, 200],
  [undefined, undefined, 404],
  [undefined, true, 200],
  [undefined, { links: {} }, 200],
  ['test', undefined, 404],
  ['staging', undefined, 404],
  ['production', undefined, 404],
  ['production', true, 404]
] as const) {
  const what = devtools === undefined ? 'without the option' : `with devtools: ${JSON.stringify(devtools)}`
  test(`the developer page answers ${status} where NODE_ENV is ${environment ?? 'unset'}, ${what}`, async (t) => {
    if (environment) withEnv(t, { NODE_ENV: environment })
    const app = await service(t, devtools === undefined ? {} : { devtools })
    for (const url of [PAGE, API]) t.equal((await app.inject(url)).statusCode, status, url)
  })
}

test('a story has the lines below the level with keep too, and says where they are written', async (t) => {
  const written: Record<string, unknown>[] = []
  const stream = { write: (line: string) => void written.push(JSON.parse(line)) }
  const app = await service(t, { devtools: true, keep: true, logging: { level: 'warn', stream } })
  app.get('/failing', async (request) => {
    request.log.debug({ step: 1 }, 'lost')
    throw new Error('boom')
  })
  for (const url of ['/ok', '/failing']) await app.inject(url)
  const of = async (id: number) => (await app.inject(`${API}/${id}`)).json()
  const own = { message: 'request completed' }
  t.match(await of(1), { isKept: false, lines: [{ message: 'found', isWritten: false }, own] })
  t.match(await of(2), { isKept: true, lines: [{ message: 'lost', fields: { step: 1 }, isWritten: false }, own] })
  t.match(written, [{ msg: 'lost', step: 1, held: true }, { msg: 'request completed' }])
  const { options } = (await app.inject(`${PAGE}/api/setup`)).json()
  t.match(
    options.filter(({ option }: { option: string }) => option === 'keep'),
    [{ value: true }, { value: true }]
  )
})

test('nothing is recorded while it is off', async (t) => {
  const app = await service(t)
  t.equal(registryOf(app).lineListener, undefined)
  t.notOk(app.observability.report().spans.to.includes('the developer page'))
})

test('in production it is on the management listener with its token, and nowhere else', async (t) => {
  withEnv(t, { NODE_ENV: 'production' })
  const app = await service(t, { devtools: true, management: { port: 0, token: 'wanted' } })
  await app.inject('/ok')
  t.equal((await app.inject(API)).statusCode, 404)
  t.equal((await app.management?.inject(API))?.statusCode, 401)
  const headers = { authorization: 'Bearer wanted' }
  const answer = await app.management?.inject({ url: API, headers })
  t.match(answer?.json(), {
    requests: [
      { path: API, status: 404 },
      { path: '/ok', status: 200 }
    ]
  })
})

test('in production it is not on a management listener without a token', async (t) => {
  withEnv(t, { NODE_ENV: 'production' })
  const app = await service(t, { devtools: true, management: { port: 0 } })
  t.equal((await app.management?.inject(API))?.statusCode, 404)
})

test('the story of a request has its spans and its lines, and the set-up what the umbrella was given', async (t) => {
  const app = await service(t, { devtools: true, metrics: { path: '/numbers' } })
  await app.inject('/ok')
  const story = (await app.inject(`${API}/1`)).json()
  t.match(story, { spans: [{ name: 'GET /ok' }], lines: [{ message: 'found' }, { message: 'request completed' }] })
  const { options, signals } = (await app.inject(`${PAGE}/api/setup`)).json()
  t.ok(
    options.some(
      ({ option, value, from }: Record<string, string>) =>
        option === 'path' && value === '/numbers' && from === 'option'
    )
  )
  t.match(signals.events.hint, /SENTRY_DSN/)
  t.match(signals.spans, { to: ['the developer page'], hint: /OTEL_EXPORTER_OTLP_ENDPOINT/ })
})
