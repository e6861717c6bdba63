import { registerHooks } from 'node:module'
import { registryOf } from '@fastify-observability/observation/internal'
import { startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import sentry, { type SentryOptions } from '../src/index.ts'

// The files of the SDK that this process has loaded: none before the second test.
let loaded = 0
registerHooks({
  load(url, context, next) {
    if (/@sentry[\\/]node[\\/]/.test(url)) loaded++
    return next(url, context)
  }
})

async function service(t: Test, options: SentryOptions = {}) {
  const ingest = await startIngest()
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    await ingest.close()
  })
  await app.register(sentry, { dsn: ingest.dsn, ...options })
  app.get('/:id', async ({ observation, params }) => {
    const { id } = params as { id: string }
    Reflect.apply(Reflect.get(observation, 'onLine'), observation, ['warn', `line of ${id}`])
    throw new Error(`boom ${id}`)
  })
  return { app, ingest }
}

test('registers, refuses wrong options, is ready and closes without the SDK', async (t) => {
  for (const options of [{ dsn: 'sentry.io' }, { tracesSampleRate: 2 }, { sdk: 7 }]) {
    await t.rejects(service(t, options as SentryOptions), /@fastify-observability\/sentry: option "/)
  }
  const { app } = await service(t)
  await app.ready()
  t.same(await registryOf(app).flush(PATIENCE_MS), { complete: true, events: { pending: 0, dropped: 0 } })
  await app.close()
  t.equal(loaded, 0)
})

test('sends what has happened before the SDK was there, as it was then', async (t) => {
  const { app, ingest } = await service(t, { user: ({ id }) => ({ id }) })
  const before = Date.now() / 1_000
  await Promise.all(['a', 'b'].map((id) => app.inject(`/${id}`)))
  const after = Date.now() / 1_000
  await registryOf(app)
    .jobs.observe('import', async () => Promise.reject(new TypeError('no rows')))
    .catch(() => undefined)
  const { complete } = await registryOf(app).flush(PATIENCE_MS)
  t.equal(complete, true)
  t.ok(loaded > 0)
  const [one, other, job] = ingest.events.toSorted((a, b) => told(a).localeCompare(told(b)))
  for (const [event, id, name] of [
    [one, 'req-1', 'a'],
    [other, 'req-2', 'b']
  ] as const) {
    const breadcrumbs = [{ category: 'log', level: 'warning', message: `line of ${name}` }]
    const expected = { transaction: 'GET /:id', tags: { request_id: id, status_code: 500 }, user: { id }, breadcrumbs }
    t.match(event, { ...expected, exception: { values: [{ value: `boom ${name}` }] } })
    t.ok(Number(event?.timestamp) >= before && Number(event?.timestamp) <= after)
  }
  t.match(job, { transaction: 'import', tags: { job: 'import' }, exception: { values: [{ type: 'TypeError' }] } })
})

function told({ exception }: { exception?: { values: { value?: string }[] } }): string {
  return String(exception?.values[0]?.value)
}
