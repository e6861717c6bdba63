import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { Agent, get } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { currentObservation } from '@fastify-observability/observation'
import { isBackground, registryOf } from '@fastify-observability/observation/internal'
import { startIngest } from '@fastify-observability/testing/ingest'
import * as Sentry from '@sentry/node'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import sentry, { type SentryOptions } from '../src/index.ts'
import { closeSent } from './closing.ts'

const CONNECTIONS = 40
const REQUESTS = 400

async function service(t: Test, options: SentryOptions = {}, own?: Sentry.NodeOptions) {
  const ingest = await startIngest()
  if (own) Sentry.init({ dsn: ingest.dsn, ...own })
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn, tracesSampleRate: 0, ...options })
  app.get<{ Params: { id: string } }>('/boom/:id', async ({ params: { id } }) => {
    Sentry.setTag('asked', id)
    await turn()
    throw new Error('boom')
  })
  t.teardown(async () => {
    await app.close()
    await Sentry.close(1000)
    await ingest.close()
  })
  return { app, ingest }
}

/** Sends the requests over keep-alive connections, many at once. */
async function ask(app: FastifyInstance, paths: string[]): Promise<void> {
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const answered = (path: string) =>
    new Promise((resolve) => get(origin + path, { agent }, (response) => response.resume().on('end', resolve)))
  await Promise.all(paths.map(answered))
  agent.destroy()
}

test('calls shouldCapture and user in the scope of their own request, over 40 connections', async (t) => {
  const asked: string[] = []
  const own = (id: string | undefined): boolean => Sentry.getIsolationScope().getScopeData().tags.asked === id
  const { app } = await service(t, {
    maxEventsPerMinute: REQUESTS,
    maxEqualEventsPerMinute: REQUESTS,
    shouldCapture(_outcome, observation) {
      const id = observation.path.slice('/boom/'.length)
      if (currentObservation() === observation && own(id)) asked.push(`shouldCapture ${id}`)
      return true
    },
    user({ id, url }) {
      if (currentObservation()?.requestId === id && own(url.slice('/boom/'.length))) asked.push(`user ${url}`)
      return { id }
    }
  })
  await ask(
    app,
    Array.from({ length: REQUESTS }, (_, id) => `/boom/${id}`)
  )
  await closeSent(app)
  t.equal(new Set(asked).size, 2 * REQUESTS)
})

test('keeps requests apart that are made in one scope of the SDK', async (t) => {
  const { app, ingest } = await service(t, { maxEqualEventsPerMinute: REQUESTS })
  await Sentry.withIsolationScope(async (scope) => {
    scope.setTag('made', 'here')
    await Promise.all(['/boom/1', '/boom/2', '/boom/3'].map((url) => app.inject(url)))
  })
  await closeSent(app)
  const told = ingest.events.map(({ tags }) => `${tags?.made} ${tags?.asked}`)
  t.same(told.sort(), ['here 1', 'here 2', 'here 3'])
})

for (const [whose, own] of [
  ['its own client', undefined],
  ['a client of the user', { integrations: (defaults) => defaults.filter(({ name }) => name !== 'Fastify') }]
] satisfies [string, Sentry.NodeOptions | undefined][]) {
  test(`delivers by ${whose} outside of every request`, async (t) => {
    const deliveries: unknown[] = []
    const listener = (): void => void deliveries.push([isBackground(), currentObservation()])
    const { app, ingest } = await service(t, {}, own)
    subscribe('http.client.request.created', listener)
    t.teardown(() => unsubscribe('http.client.request.created', listener))
    await app.inject('/boom/7')
    await ingest.event(() => true)
    t.same(deliveries, [[true, undefined]])
  })
}

test('reports functions that are async, and decides without them', async (t) => {
  const rejects = (async () => Promise.reject(new Error('not today'))) as never
  const { app, ingest } = await service(t, { shouldCapture: rejects, user: rejects })
  for (const url of ['/boom/1', '/nowhere']) await app.inject(url)
  await closeSent(app)
  t.match(ingest.events, [{ transaction: 'GET /boom/:id', user: undefined }])
  t.equal(ingest.events.length, 1)
  const errors = registryOf(app).published.find(({ name }) => name === 'observability_observer_errors_total')
  t.same(Array.from(errors?.collect() ?? []), [[{ observer: '@fastify-observability/sentry' }, 3]])
})
