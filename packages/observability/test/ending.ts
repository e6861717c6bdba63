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
app.get('/outage', async () => {
  setTimeout(() => {
    for (let query = 0; query < 3; query++) Promise.reject(new TypeError('nobody waits for us'))
  })
})
app.get('/throw', async () => {
  setTimeout(() => {
    throw new TypeError('nobody catches me')
  })
})
// As socket.io does, past Fastify.
app.server.on('upgrade', (_request, socket) => {
  socket.on('error', () => undefined)
  socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n')
})
await app.listen({ port: Number(PORT ?? 0), host: '127.0.0.1' })
