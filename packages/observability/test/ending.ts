import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import observability from '../src/index.ts'

// A user's service that the observability ends, for the tests to run as a process of its own.
const { PORT, SHUTDOWN = '{}', LOG_FILE } = process.env
const app = Fastify()
await app.register(observability, {
  logging: LOG_FILE ? { file: LOG_FILE } : {},
  health: { shutdown: JSON.parse(SHUTDOWN) }
})
app.addHook('onClose', async () => app.log.info('the database is closed'))
app.get('/orders/:id', async () => {
  await wait(Math.random() * 20)
  return { ok: true }
})
app.get('/hang', () => new Promise(() => undefined))
app.get('/reject', async () => {
  setTimeout(() => Promise.reject(new TypeError('nobody waits for me')))
})
app.get('/throw', async () => {
  setTimeout(() => {
    throw new TypeError('nobody catches me')
  })
})
await app.listen({ port: Number(PORT ?? 0), host: '127.0.0.1' })
