import { inspect } from 'node:util'
import Fastify from 'fastify'

// A process that ends, or does not, as its argument says.
const [how = '', dsn] = process.argv.slice(2)

// As close-with-grace listens: before the app is made, and once.
if (how === 'throw, caught once') process.once('uncaughtException', () => undefined)

const app = Fastify()
if (dsn) {
  const { default: sentry } = await import('../src/index.ts')
  await app.register(sentry, { dsn, tracesSampleRate: 0 })
}

const hostile = Object.defineProperty(new TypeError('uncaught'), 'message', {
  get() {
    throw new Error('hands off')
  }
})
const ways: Record<string, () => void> = {
  throw: () => {
    throw new TypeError('uncaught')
  },
  'throw, caught': () => {
    process.on('uncaughtException', () => undefined)
    throw new TypeError('uncaught')
  },
  'throw, caught once': () => {
    throw new TypeError('uncaught')
  },
  'throw what cannot be read, caught': () => {
    process.on('uncaughtException', () => undefined)
    throw hostile
  },
  'throw what cannot be read': () => {
    throw hostile
  },
  'throw what cannot be shown': () => {
    throw Object.assign(new TypeError('uncaught'), {
      [inspect.custom]() {
        throw new Error('hands off')
      }
    })
  },
  reject: () => void Promise.reject(new TypeError('unhandled')),
  'reject, handled': () => {
    process.on('unhandledRejection', () => undefined)
    Promise.reject(new TypeError('unhandled'))
  },
  'reject, no longer handled': () => {
    const listener = (): void => undefined
    process.on('unhandledRejection', listener)
    process.off('unhandledRejection', listener)
    Promise.reject(new TypeError('unhandled'))
  },
  'fail, and close': async () => {
    app.get('/', async () => Promise.reject(new Error('boom')))
    await app.inject('/')
    await app.close()
  }
}
// What lives on ends by itself.
setTimeout(() => void app.close(), 100)
ways[how]?.()
