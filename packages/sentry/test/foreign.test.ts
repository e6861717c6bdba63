import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { startIngest } from '@fastify-observability/testing/ingest'
import * as Sentry from '@sentry/node'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

test('leaves an unhandled rejection as deadly as it is without the plugin', async (t) => {
  const plugin = fileURLToPath(new URL('../src/index.ts', import.meta.url))
  const code = `
    import Fastify from 'fastify'
    import sentry from ${JSON.stringify(plugin)}
    await Fastify().register(sentry, { dsn: 'http://key@127.0.0.1:1/1' })
    setTimeout(() => process.exit(0), 5000)
    Promise.reject(new Error('lost'))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    cwd: import.meta.dirname,
    stdio: 'ignore'
  })
  const [exitCode] = await once(child, 'exit')
  t.equal(exitCode, 1)
})

test('uses the client that the user has made, and leaves it open', async (t) => {
  const ingest = await startIngest()
  t.teardown(() => ingest.close())
  const client = Sentry.init({
    dsn: ingest.dsn,
    environment: 'mine',
    integrations: (defaults) => defaults.filter(({ name }) => name !== 'Fastify')
  })
  const app = Fastify()
  await app.register(sentry, { dsn: 'http://key@127.0.0.1:1/1' })
  app.get('/', async () => Promise.reject(new Error('boom')))
  await app.inject('/')
  await app.close()
  t.equal(Sentry.getClient(), client)
  await Sentry.flush(2000)
  t.match(ingest.events, [{ environment: 'mine', tags: { request_id: 'req-1' } }])
  await Sentry.close(1000)
})
