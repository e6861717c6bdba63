import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observation from '../src/index.ts'

/** An app and what two observers have heard of. */
async function heard(t: Test, declare: (app: FastifyInstance) => void): Promise<[FastifyInstance, string[]]> {
  const app = Fastify()
  const ends: string[] = []
  await app.register(observation)
  for (const name of ['first', 'second']) {
    app.observation.observe({ name, end: ({ raw }) => void ends.push(`${name} ${raw.url}`) })
  }
  declare(app)
  t.teardown(() => app.close())
  return [app, ends]
}

/** Asks for all of them in one packet, and resolves when the last one is answered. */
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

test('tells of a request before the next one of its connection is served', async (t) => {
  let known = 0
  const [app, ends] = await heard(t, (app) => {
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

test('tells every observer of each request once, the last one first, whatever the others throw', async (t) => {
  const paths = Array.from({ length: 100 }, (_, index) => `/${index}`)
  const [app, ends] = await heard(t, (app) => {
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
  t.same([...(app.observation.published[0]?.collect() ?? [])], [[['broken'], 100]])
})

test('tells of a failure at once, and first of what ended before it', async (t) => {
  const known: string[][] = []
  const [app, ends] = await heard(t, (app) => {
    app.get('/:id', async (request, reply) => {
      if (request.url !== '/3') return 'ok'
      reply.raw.on('close', () => known.push(ends.filter((end) => end.startsWith('first'))))
      throw new Error('no')
    })
  })
  await askTogether(app, ['/1', '/2', '/3', '/4'])
  t.same(known, [['first /1', 'first /2', 'first /3']])
  t.equal(ends.length, 8)
})

test('tells of what has ended when it is asked to flush, and when the app closes', async (t) => {
  for (const method of ['flush', 'close'] as const) {
    const { promise: told, resolve } = Promise.withResolvers<number>()
    const [app, ends] = await heard(t, (app) => {
      app.get('/', async (_request, reply) => {
        reply.raw.on('close', async () => {
          if (method === 'flush') await app.observation.flush(1_000)
          else await app.close()
          resolve(ends.length)
        })
        return 'ok'
      })
    })
    await (await fetch(await app.listen({ host: '127.0.0.1', port: 0 }))).text()
    t.equal(await told, 2, method)
  }
})

test('tells of what has ended before the process ends', async (t) => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('exit.ts', import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  t.equal(said, '200 /')
  t.equal(code, 0)
})
