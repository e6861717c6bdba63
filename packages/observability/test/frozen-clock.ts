import { mock } from 'node:test'
import Fastify from 'fastify'
import sinon from 'sinon'
import observability from '../src/index.ts'

// A service whose clock stands still as soon as it listens, for the tests to run as a process of its own.
const app = Fastify()
await app.register(observability)
app.get('/', async () => 'found')
app.addHook('onListen', async () => {
  if (process.env.CLOCK === 'sinon') sinon.useFakeTimers({ toNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] })
  else mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] })
})
await app.listen({ port: 0, host: '127.0.0.1' })
