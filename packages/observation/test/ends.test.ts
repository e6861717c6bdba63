import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observation, { currentObservation } from '../src/index.ts'
import { registryOf } from '../src/internal.ts'

/** An app and what two observers have received. */
async function received(t: Test, declare: (app: FastifyInstance) => void): Promise<[FastifyInstance, string[]]> {
  const app = Fastify()
  const ends: string[] = []
  await app.register(observation)
  for (const name of ['first', 'second']) {
    app.observation.observe({ name, end: ({ path }) => void ends.push(`${name} ${path}`) })
  }
  declare(app)
  t.teardown(() => app.close())
  return [app, ends]
}

/** Sends all of them in one packet, and resolves when the last one is answered. */
async function askTogether(app: FastifyInstance, paths: string[]): Promise<void> {
  const { port } = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
  const socket = connect(Number(port), '127.0.0.1')
  const last = paths.length - 1
  socket.write(
    paths
      .map((path, index) => `GET ${path} HTTP/1.1\r\nhost: a\r\n${index === last ? 'connection: close\r\n' : ''}\r\n`)
      .join('')
  )
  await text(socket)
  await turn()
}

test('reports a request before the next one of its connection is served', async (t) => {
  let known = 0
  const [app, ends] = await received(t, (app) => {
    app.get('/', async () => {
      known = ends.length
      return 'ok'
    })
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  for (let requests = 0; requests < 5; requests++) {
    await (await fetch(url)).text()
    t.equal(known, 2 * requests)
  }
})

test('calls every observer once for each request, the last one first, whatever the others throw', async (t) => {
  const paths = Array.from({ length: 100 }, (_, index) => `/${index}`)
  const [app, ends] = await received(t, (app) => {
    app.observation.observe({
      name: 'broken',
      end() {
        throw new Error('no')
      }
    })
    app.get('/:id', async () => 'ok')
  })
  await askTogether(app, paths)
  t.same(ends.toSorted(), paths.flatMap((path) => [`first ${path}`, `second ${path}`]).sort())
  for (const path of paths) t.ok(ends.indexOf(`second ${path}`) < ends.indexOf(`first ${path}`))
  t.same([...(registryOf(app).published[0]?.collect() ?? [])], [[{ observer: 'broken' }, 100]])
})

test('reports an end in the close of its response, before the listeners that the application added', async (t) => {
  const known: string[][] = []
  const [app, ends] = await received(t, (app) => {
    app.get('/:id', async ({ url }, reply) => {
      reply.raw.on('close', () => known.push(ends.filter((end) => end.endsWith(url))))
      if (url === '/3') throw new Error('no')
      return 'ok'
    })
  })
  const paths = ['/1', '/2', '/3', '/4']
  await askTogether(app, paths)
  t.same(
    known,
    paths.map((path) => [`second ${path}`, `first ${path}`])
  )
})

test('runs each of 400 ends in the scope of its own request, with 40 connections and requests that fail', async (t) => {
  const seen: [string, string | undefined][] = []
  const [app] = await received(t, (app) => {
    app.observation.observe({ name: 'scope', end: ({ path }) => void seen.push([path, currentObservation()?.path]) })
    app.get('/:id', async ({ url }) => {
      await turn()
      if (url.endsWith('7')) throw new Error('no')
      return 'ok'
    })
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const agent = new Agent({ keepAlive: true, maxSockets: 40 })
  t.teardown(() => agent.destroy())
  await Promise.all(
    Array.from({ length: 400 }, async (_, index) => {
      const [answer] = await once(get(`${url}/${index}`, { agent }), 'response')
      await text(answer)
    })
  )
  await turn()
  t.equal(seen.length, 400)
  t.equal(seen.filter(([path, current]) => path === current).length, 400)
})

test('runs an end inside the context of an observer that resumes it', async (t) => {
  const [app, ends] = await received(t, (app) => {
    app.observation.observe({
      name: 'context',
      resume({ path }, next) {
        ends.push(`enter ${path}`)
        next()
        ends.push(`leave ${path}`)
      }
    })
    app.get('/', async () => 'ok')
  })
  await app.inject('/')
  t.same(ends, ['enter /', 'second /', 'first /', 'leave /'])
})

test('reports what has ended before the process exits', async (t) => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('exit.ts', import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  t.equal(said, '200 /')
  t.equal(code, 0)
})
