import { registerHooks } from 'node:module'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

let isListening = false
const loading = Promise.withResolvers<boolean>()
registerHooks({
  load(url, context, next) {
    if (/@sentry[\\/]node[\\/]/.test(url)) loading.resolve(isListening)
    return next(url, context)
  }
})

test('loads the SDK when the app listens, not before', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const app = Fastify()
  await app.register(sentry, { dsn: ingest.dsn })
  await app.ready()
  await app.listen({ port: 0 })
  isListening = true
  t.equal(await loading.promise, true)
  await app.close()
})
