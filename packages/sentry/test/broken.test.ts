import { registerHooks } from 'node:module'
import { registryOf } from '@fastify-observability/observation/internal'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { ROOT_CONTEXT } from '@opentelemetry/api'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

// An installation that is found and cannot be loaded.
registerHooks({
  load(url, context, next) {
    if (/@sentry[\\/]node[\\/]/.test(url)) throw new Error('a file of the SDK is broken')
    return next(url, context)
  }
})

test('counts the events of an app whose SDK cannot be loaded, warns once, and serves', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => void lines.push(line) } } })
  await app.register(sentry, { dsn: 'https://key@sentry.test/1' })
  app.get('/:id', async () => Promise.reject(Object.assign(new Error('gone wrong'), { statusCode: 503 })))
  const { jobs, flush, published } = registryOf(app)
  // It fails before the SDK can be loaded or not.
  const job = jobs.create('import', {}, { spanName: 'import', attributes: {}, context: ROOT_CONTEXT })
  jobs.start(job, () => job.fail(new Error('no rows')))
  jobs.end(job)
  t.match(await flush(PATIENCE_MS), { events: { pending: 0 } })
  for (const id of [1, 2]) t.equal((await app.inject(`/${id}`)).statusCode, 503)
  await app.close()
  const dropped = published.find(({ name }) => name === 'sentry_events_dropped_total')
  t.same(Array.from(dropped?.collect() ?? []), [[{ reason: 'not_loaded' }, 3]])
  const warnings = lines.map((line) => JSON.parse(line).msg).filter((msg) => msg.includes('sentry'))
  t.equal(warnings.length, 1)
  t.match(warnings[0], /@fastify-observability\/sentry: no events are sent: .*a file of the SDK is broken/)
})
