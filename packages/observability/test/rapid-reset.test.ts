import { EventEmitter, once } from 'node:events'
import { connect, constants } from 'node:http2'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { startCollector } from '@fastify-observability/testing/collector'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'

const STREAMS = 2_000
// Node closes a session with more resets at once.
const A_SESSION = 500
const MAX_GROWTH_BYTES = 16 * 2 ** 20

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

async function service(t: Test) {
  const collector = await startCollector()
  const lines: { msg: string; path: string }[] = []
  const changes = new EventEmitter()
  const app = Fastify({ http2: true })
  t.teardown(async () => {
    await app.close()
    await collector.close()
  })
  const write = (line: string): void => {
    lines.push(JSON.parse(line))
    changes.emit('change')
  }
  await app.register(observability, { logging: { stream: { write } }, tracing: { endpoint: collector.url } })
  let begun = 0
  app.server.on('stream', () => {
    begun++
    changes.emit('change')
  })
  app.get('/', () => new Promise(() => undefined))
  app.get('/known', async () => 'found')
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const until = async (isSo: () => boolean): Promise<void> => {
    while (!isSo()) await once(changes, 'change')
  }
  return { app, url, lines, collector, until, begun: () => begun }
}

/** Opens streams and resets each at once, on a connection of its own; how many the session has sent. */
async function reset(url: string): Promise<void> {
  const session = connect(url)
  session.on('error', () => undefined)
  await once(session, 'connect')
  const closed = Array.from({ length: A_SESSION }, () => {
    const stream = session.request({ ':path': '/' }).on('error', () => undefined)
    stream.close(constants.NGHTTP2_CANCEL)
    return once(stream, 'close')
  })
  await Promise.all(closed)
  await new Promise<void>((resolve) => session.close(resolve))
}

test('accounts once for each of 2,000 HTTP/2 streams that a client resets at once, and keeps nothing of them', async (t) => {
  const { app, url, lines, collector, until, begun } = await service(t)
  const aborted = () => lines.filter(({ msg }) => msg === 'request aborted').length
  await reset(url)
  collectGarbage()
  const before = process.memoryUsage().heapUsed
  for (let sent = A_SESSION; sent < STREAMS; sent += A_SESSION) await reset(url)
  await until(() => aborted() >= begun())
  t.comment(`${begun()} streams have reached the server`)
  const { body } = await app.inject('/metrics')
  const count =
    /^http_server_request_duration_seconds_count\{.*http_route="\/".*error_type="client_disconnect".*\} (\d+)$/m
  t.ok(begun() > 0)
  t.same([aborted(), Number(count.exec(body)?.[1])], [begun(), begun()])
  t.match(body, /^http_server_active_requests\{.*http_route="\/".*\} 0$/m)
  await app.observability.flush(PATIENCE_MS)
  const { dropped } = app.observability.report()
  t.equal(collector.spans.filter(({ name }) => name === 'GET /').length, begun(), `dropped ${JSON.stringify(dropped)}`)
  lines.length = 0
  collector.spans.length = 0
  collectGarbage()
  t.ok(process.memoryUsage().heapUsed - before < MAX_GROWTH_BYTES)
})

test('answers others while a client resets its streams', async (t) => {
  const { url } = await service(t)
  const session = connect(url)
  t.teardown(() => session.destroy())
  const answered = once(session.request({ ':path': '/known' }), 'response')
  await reset(url)
  const [headers] = await answered
  t.equal(headers[':status'], 200)
})
