import { setTimeout as sleep } from 'node:timers/promises'
import * as Sentry from '@sentry/node'
import Fastify from 'fastify'
import sentry from '../src/index.ts'

// A process that is profiled, whose request leaves a span open, and which has nothing left to do once its app has closed.
const [lifecycle, dsn = ''] = process.argv.slice(2)
// What is in use is ready for the first request.
Sentry.setTag('profiled', 'yes')
const app = Fastify()
await app.register(sentry, {
  dsn,
  tracesSampleRate: 1,
  profilesSampleRate: 1,
  ...((lifecycle === 'trace' || lifecycle === 'manual') && { sdk: { profileLifecycle: lifecycle } })
})
app.get('/', async () => {
  Sentry.startInactiveSpan({ name: 'never ends' })
  if (lifecycle === 'manual') Sentry.profiler.startProfiler()
  // Samples are taken a hundred times a second.
  await sleep(200)
})
await app.inject('/')
await app.close()
