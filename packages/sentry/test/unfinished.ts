import { setTimeout as sleep } from 'node:timers/promises'
import * as Sentry from '@sentry/node'
import Fastify from 'fastify'
import sentry from '../src/index.ts'

// A process that is profiled, whose spans do as its argument says, and which has nothing left to do once its app has closed.
const [how = '', dsn = ''] = process.argv.slice(2)
const [lifecycle] = (['trace', 'manual'] as const).filter((name) => how.includes(name))

function leaveOpen(): void {
  Sentry.startInactiveSpan({ name: 'never ends' })
}

// What is in use is ready for the first request.
Sentry.setTag('profiled', 'yes')
const app = Fastify()
// Of what was registered first the close comes last.
if (how === 'begins at the close') app.addHook('onClose', async () => leaveOpen())
await app.register(sentry, {
  dsn,
  tracesSampleRate: 1,
  profilesSampleRate: 1,
  ...(lifecycle && { sdk: { profileLifecycle: lifecycle } })
})
app.get('/', async () => {
  if (how.startsWith('does not end')) leaveOpen()
  if (how === 'is not sampled') Sentry.startSpan({ name: 'below' }, () => undefined)
  if (lifecycle === 'manual') Sentry.profiler.startProfiler()
  // Samples are taken a hundred times a second.
  await sleep(200)
})
const unsampled = { 'sentry-trace': `${'a'.repeat(32)}-${'b'.repeat(16)}-0` }
await app.inject({ url: '/', headers: how === 'is not sampled' ? unsampled : {} })
if (how.endsWith('another client')) Sentry.init({})
await app.close()
