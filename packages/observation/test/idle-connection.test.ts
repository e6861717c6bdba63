import { once } from 'node:events'
import { connect } from 'node:net'
import { queryObjects, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import { test } from 'tap'
import observation, { Observation } from '../src/index.ts'

const CONNECTIONS = 20

test('connections that wait for their next request keep nothing of the last one', async (t) => {
  const app = Fastify()
  await app.register(observation)
  app.get('/', async () => 'ok')
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => app.close())
  for (let index = 0; index < CONNECTIONS; index++) {
    const socket = connect(Number(port), '127.0.0.1')
    t.teardown(() => socket.destroy())
    await once(socket.setEncoding('utf8'), 'connect')
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    t.match(await once(socket, 'data'), ['200 OK'])
  }
  t.equal(await new Promise((resolve) => app.server.getConnections((_error, count) => resolve(count))), CONNECTIONS)
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  // The server's parser may still hold its very last.
  const alive = queryObjects(Observation, { format: 'count' })
  t.ok(alive <= 1, `${alive} observations of ${CONNECTIONS} alive`)
})

test('connections that wait too long are closed, as without the observation', async (t) => {
  const app = Fastify({ keepAliveTimeout: 100 })
  await app.register(observation)
  app.get('/', async () => 'ok')
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  t.teardown(() => app.close())
  const socket = connect(Number(port), '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  await once(socket.resume(), 'end')
  t.pass('closed by the server')
})
