import Fastify from 'fastify'
import sentry from '../src/index.ts'

// A process that ends, or does not, as its argument says. It says "alive" if it is a moment later.
const [how = '', dsn] = process.argv.slice(2)

const app = Fastify()
if (dsn) await app.register(sentry, { dsn, tracesSampleRate: 0 })

const ways: Record<string, () => void> = {
  throw: () => {
    throw new TypeError('uncaught')
  },
  'throw, caught': () => {
    process.on('uncaughtException', () => undefined)
    throw new TypeError('uncaught')
  },
  reject: () => void Promise.reject(new TypeError('unhandled')),
  'reject with no error': () => void Promise.reject('unhandled'),
  'reject, handled': () => {
    process.on('unhandledRejection', () => undefined)
    Promise.reject(new TypeError('unhandled'))
  },
  'reject, caught': () => {
    process.on('uncaughtException', () => undefined)
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
setTimeout(() => {
  process.stdout.write('alive')
  void app.close()
}, 300)
ways[how]?.()
