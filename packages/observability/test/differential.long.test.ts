import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import compress from '@fastify/compress'
import cors from '@fastify/cors'
import express from '@fastify/express'
import helmet from '@fastify/helmet'
import middie from '@fastify/middie'
import files from '@fastify/static'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import observability from '../src/index.ts'
import { rawRequests } from './raw-requests.ts'
import { type Varied, variedRequests } from './varied-requests.ts'

type Plugins = (app: FastifyInstance) => Promise<unknown>

const COUNT = 300
/** One that has found a difference stays. */
const SEEDS = [1, 20_261_127]
/** What the suite adds, as its README says, and what differs from call to call. */
const DOCUMENTED = new Set(['x-request-id', 'x-correlation-id', 'server-timing', 'date'])
const RAW_COUNT = 500
// A server that resets a connection may or may not be read before.
const TRIES = 5
const IDLE_MS = 1_000
const agent = new Agent({ keepAlive: true })

const SETS: Record<string, Plugins> = {
  alone: async () => undefined,
  'with @fastify/express': async (app) => {
    await app.register(express)
    app.use('/legacy', (_request: unknown, response: { end(text: string): void }) => response.end('from express'))
  },
  'with seven plugins together': async (app) => {
    await app.register(middie)
    app.use('/legacy', (_request: unknown, response: { end(text: string): void }) => response.end('from middleware'))
    await app.register(helmet)
    await app.register(cors, { origin: 'https://shop.example' })
    await app.register(compress, { threshold: 0 })
    await app.register(underPressure)
    await app.register(websocket)
    await app.register(files, { root: import.meta.dirname, prefix: '/files/' })
  }
}

/** Answers in all the ways that Fastify knows. */
function declareRoutes(app: FastifyInstance): void {
  const fail = (statusCode: number): Error => Object.assign(new Error('asked for'), { statusCode })
  app.get('/json', async () => ({ ok: true, text: 'ü€😀' }))
  app.get('/text', async () => 'text')
  app.get('/none', async (_request, reply) => void (await reply.send()))
  app.get('/null', async () => null)
  app.get('/late', (_request, reply) => void setImmediate(() => reply.send('late')))
  app.get('/stream', async (_request, reply) => reply.type('text/plain').send(Readable.from(['one ', 'two'])))
  app.get('/big', async () => 'x'.repeat(200_000))
  app.get('/empty', async (_request, reply) => reply.code(204).send())
  app.get('/redirect', async (_request, reply) => reply.redirect('/json', 303))
  app.get('/cookies', async (_request, reply) => reply.header('set-cookie', ['a=1', 'b=2']).send('set'))
  app.get('/written', async (_request, reply) => void reply.raw.writeHead(202, { 'x-own': '1' }).end('written'))
  app.get('/hijacked', (_request, reply) => void reply.hijack().raw.end('hijacked'))
  app.get(
    '/early',
    { onRequest: (_request, reply) => void reply.code(401).send({ error: 'log in' }) },
    async () => 'no'
  )
  app.get('/boom', async () => Promise.reject(new TypeError('boom')))
  app.get('/nothing-thrown', async () => Promise.reject(null))
  app.get('/text-thrown', async () => Promise.reject('text'))
  app.get('/status/:code', async ({ params }) => Promise.reject(fail(Number(Reflect.get(Object(params), 'code')))))
  const params = { type: 'object', properties: { id: { type: 'integer' } } }
  app.all('/typed/:id', { schema: { params } }, async (request) => request.params)
  app.get('/wild/*', async (request) => request.params)
  app.route({
    method: ['POST', 'PUT', 'PATCH', 'DELETE'],
    url: '/echo',
    handler: async ({ body }) => body ?? 'nothing'
  })
  app.get('/hook', { preSerialization: async () => Promise.reject(fail(409)) }, async () => ({ ok: true }))
  app.get('/torn', async (_request, reply) => reply.send(Readable.from(tornStream())))
  app.get('/handled', { errorHandler: (_error, _request, reply) => void reply.code(422).send('handled') }, () => {
    throw new Error('to be handled')
  })
  app.get('/handler-throws', { errorHandler: () => Promise.reject(new Error('second')) }, () => {
    throw new Error('first')
  })
}

async function* tornStream(): AsyncGenerator<string> {
  yield 'first part'
  // Once that is on its way.
  await new Promise(setImmediate)
  throw new Error('torn')
}

async function service(t: Test, plugins: Plugins, observed: boolean): Promise<string> {
  const app = Fastify({ bodyLimit: 2000, logger: false })
  t.teardown(() => app.close())
  if (observed) await app.register(observability, { logging: { level: 'silent' } })
  await plugins(app)
  declareRoutes(app)
  return await app.listen({ port: 0, host: '127.0.0.1' })
}

/** What comes back, without what is documented to differ. */
async function answerTo(varied: Varied, origin: string): Promise<unknown> {
  if (typeof varied === 'string') return await bytesFor(varied, Number(new URL(origin).port))
  const { method, path, headers, body } = varied
  const asked = request(origin, { method, path, agent, headers: { host: 'shop.example', ...headers } })
  const answered = once(asked, 'response')
  asked.end(body)
  try {
    const [response]: IncomingMessage[] = await answered
    if (!response) return undefined
    const { statusCode, statusMessage } = response
    return { statusCode, statusMessage, headers: undocumented(response.rawHeaders), ...(await bodyOf(response)) }
  } catch (error) {
    return { error: Reflect.get(Object(error), 'code') }
  }
}

async function bodyOf(response: IncomingMessage): Promise<{ body: string; torn: boolean }> {
  let body = ''
  response.setEncoding('latin1').on('data', (chunk) => {
    body += chunk
  })
  await once(response, 'close').catch(() => undefined)
  return { body, torn: !response.complete }
}

function undocumented(rawHeaders: string[]): string[] {
  const pairs = rawHeaders.flatMap((name, index) =>
    index % 2 ? [] : [`${name.toLowerCase()}: ${rawHeaders[index + 1]}`]
  )
  return pairs.filter((pair) => !DOCUMENTED.has(pair.slice(0, pair.indexOf(':')))).sort()
}

async function bytesFor(bytes: string, port: number): Promise<string[]> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1')
  let answer = ''
  socket.on('error', () => undefined)
  socket.on('data', (chunk) => {
    answer += chunk
  })
  // A connection that was upgraded stays open.
  socket.setTimeout(IDLE_MS, () => {
    answer += '\r\nstill open'
    socket.destroy()
  })
  socket.end(bytes, 'latin1')
  await once(socket, 'close')
  const lines = answer.split('\r\n')
  return lines.filter((line) => !DOCUMENTED.has(line.slice(0, line.indexOf(':')).toLowerCase()))
}

for (const [how, plugins] of Object.entries(SETS)) {
  for (const seed of SEEDS) {
    test(`answers ${COUNT} varied requests as an app without the suite does, ${how}, seed ${seed}`, async (t) => {
      const [plain, observed] = [await service(t, plugins, false), await service(t, plugins, true)]
      for (const varied of variedRequests(seed, COUNT)) {
        const [expected, answer] = await Promise.all([answerTo(varied, plain), answerTo(varied, observed)])
        t.same(answer, expected, JSON.stringify(varied).slice(0, 200))
      }
    })
  }
}

// Without @fastify/websocket, whose upgraded connections end when their peers want it.
for (const [how, plugins] of Object.entries(SETS).slice(0, 2)) {
  test(`answers the bytes of ${RAW_COUNT} sound and broken requests as an app without the suite does, ${how}`, async (t) => {
    const [plain, observed] = [await service(t, plugins, false), await service(t, plugins, true)]
    for (const bytes of rawRequests(7, RAW_COUNT)) {
      let [expected, answer]: unknown[] = []
      for (let tries = 0; tries < TRIES; tries++) {
        ;[expected, answer] = await Promise.all([answerTo(bytes, plain), answerTo(bytes, observed)])
        if (isDeepStrictEqual(answer, expected)) break
      }
      t.same(answer, expected, JSON.stringify(bytes).slice(0, 200))
    }
  })
}
