import { once } from 'node:events'
import { createServer } from 'node:net'
import { startCollector } from '@fastify-observability/testing/collector'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability, { type ManagementOptions, type ObservabilityOptions } from '../src/index.ts'

interface Served {
  app: FastifyInstance
  /** The main listener and the second one. */
  main: string
  second: string
  lines: string[]
}

async function serve(t: Test, management: ManagementOptions, options: ObservabilityOptions = {}): Promise<Served> {
  const lines: string[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(observability, {
    logging: { stream: { write: (line: string) => void lines.push(line) } },
    management,
    ...options
  })
  const main = await app.listen({ port: 0, host: '127.0.0.1' })
  const second = app.management?.listeningOrigin ?? ''
  t.match(second, /^http:\/\/127\.0\.0\.1:\d+$/)
  return { app, main, second, lines }
}

async function status(url: string, authorization?: string): Promise<number> {
  const answer = await fetch(url, authorization === undefined ? {} : { headers: { authorization } })
  await answer.text()
  return answer.status
}

test('takes /metrics to a second listener, and leaves the probes on the first', async (t) => {
  const { main, second } = await serve(t, { port: 0 })
  t.equal(await status(`${second}/metrics`), 200)
  t.equal(await status(`${main}/metrics`), 404)
  for (const path of ['/health', '/health/ready']) t.equal(await status(main + path), 200, path)
})

test('asks for its token', async (t) => {
  const { main, second } = await serve(t, { port: 0, token: 's3cret' })
  for (const wrong of [undefined, '', 'Bearer', 'Bearer s3cre', 'Bearer s3crett', 'Basic s3cret', 's3cret']) {
    t.equal(await status(`${second}/metrics`, wrong), 401, wrong ?? 'none')
  }
  t.equal(await status(`${second}/nowhere`), 401)
  t.equal(await status(`${second}/metrics`, 'Bearer s3cret'), 200)
  t.equal(await status(`${main}/health`), 200)
})

test('leaves neither lines, spans nor metrics of its own', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const { app, second, lines } = await serve(t, { port: 0 }, { tracing: { endpoint: collector.url } })
  lines.length = 0
  for (let n = 0; n < 3; n++) await status(`${second}/metrics`)
  t.same(lines, [])
  t.notMatch(await (await fetch(`${second}/metrics`)).text(), /^http_server_request_duration_seconds_count/m)
  await app.close()
  t.same(
    collector.spans.filter(({ kind }) => kind === 'SERVER'),
    []
  )
})

test('closes with the app', async (t) => {
  const { app, second } = await serve(t, { port: 0 })
  await app.close()
  await t.rejects(status(`${second}/metrics`))
})

test('opens its port with listen(), and not with ready() or inject()', async (t) => {
  const apps = [Fastify(), Fastify()]
  t.teardown(() => Promise.all(apps.map((app) => app.close())))
  for (const app of apps) {
    await app.register(observability, { management: { port: 0 }, logging: false })
    app.get('/', async () => 'ok')
  }
  const [readied, listening] = apps
  await readied?.ready()
  t.equal((await readied?.inject('/'))?.statusCode, 200)
  t.equal(readied?.management?.server.listening, false)
  await listening?.listen({ port: 0, host: '127.0.0.1' })
  t.equal(await status(`${listening?.management?.listeningOrigin}/metrics`), 200)
})

test('opens its port with a listen() after ready(), and with one that has a callback', async (t) => {
  const apps = [Fastify(), Fastify()]
  t.teardown(() => Promise.all(apps.map((app) => app.close())))
  for (const app of apps) await app.register(observability, { management: { port: 0 }, logging: false })
  await apps[0]?.ready()
  for (const app of apps) {
    const opened = app.management?.server ? once(app.management.server, 'listening') : undefined
    app.listen({ port: 0, host: '127.0.0.1' }, () => undefined)
    await opened
    t.equal(await status(`${app.management?.listeningOrigin}/metrics`), 200)
  }
})

test('a port that is taken ends the start with a sentence', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = taken.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const app = Fastify()
  await app.register(observability, { management: { port }, logging: false })
  t.teardown(() => app.close())
  const sentence = `fastify-observability: the management listener cannot listen on 127.0.0.1:${port}`
  await t.rejects(app.listen({ port: 0 }), { message: sentence, cause: { code: 'EADDRINUSE' } })
})

test('refuses an invalid port', async (t) => {
  const sentence = 'fastify-observability: option "management.port" must be a port from 0 to 65535, got 70000'
  const app = Fastify()
  await t.rejects(async () => app.register(observability, { management: { port: 70_000 } }), new TypeError(sentence))
})
