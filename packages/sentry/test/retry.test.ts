import { registerHooks } from 'node:module'
import { startIngest } from '@fastify-observability/testing/ingest'
import Fastify from 'fastify'
import { test } from 'tap'
import sentry from '../src/index.ts'

let attempts = 0
let isBroken = true
registerHooks({
  load(url, context, next) {
    if (isBroken && /@sentry[\\/]node[\\/]/.test(url)) {
      attempts++
      throw new Error('too many open files')
    }
    return next(url, context)
  }
})

test('loads the SDK a minute after it could not be loaded, and sends what has waited', async (t) => {
  const ingest = await startIngest()
  const now = performance.now.bind(performance)
  let aheadMs = 0
  t.intercept(performance, 'now', { value: () => now() + aheadMs })
  const { promise: warned, resolve } = Promise.withResolvers<string>()
  const write = (line: string): void => void (line.includes('"level":40') && resolve(line))
  const app = Fastify({ logger: { level: 'warn', stream: { write } } })
  t.teardown(async () => {
    await app.close()
    await ingest.close()
  })
  await app.register(sentry, { dsn: ingest.dsn })
  app.get('/:id', async ({ params }) => {
    throw new Error(`boom ${(params as { id: string }).id}`)
  })
  await app.inject('/1')
  t.match(await warned, /no events are sent: .*too many open files/)
  aheadMs = 59_000
  await app.inject('/2')
  t.equal(attempts, 1)
  isBroken = false
  aheadMs = 61_000
  const sent = ingest.item('event')
  await app.inject('/3')
  await sent
  await app.close()
  const messages = ingest.events.map(({ exception }) => exception?.values[0]?.value)
  t.same(messages.toSorted(), ['boom 1', 'boom 2', 'boom 3'])
})
