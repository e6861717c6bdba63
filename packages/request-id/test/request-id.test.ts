import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import requestId, { type RequestIdOptions } from '../src/index.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

async function service(options: RequestIdOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(requestId, options)
  app.get('/', async (request) => request.id)
  app.get('/boom', async () => Promise.reject(new Error('boom')))
  return app
}

test('generates an id, gives it to the request and echoes it', async (t) => {
  const app = await service()
  const { headers, body } = await app.inject('/')
  t.match(headers['x-request-id'], UUID)
  t.equal(headers['x-request-id'], body)
})

test('keeps a safe inbound id', async (t) => {
  const app = await service()
  const { headers } = await app.inject({ url: '/', headers: { 'X-Request-Id': 'edge-1.2:3@a+b/c=d' } })
  t.equal(headers['x-request-id'], 'edge-1.2:3@a+b/c=d')
})

const UNSAFE = ['a b', '', 'x'.repeat(129), 'a\tb', 'é', '${jndi:ldap://x}', '<script>', 'a,b']

test('replaces an id that is empty, long, or not plain', async (t) => {
  const app = await service()
  for (const id of UNSAFE) {
    const { headers } = await app.inject({ url: '/', headers: { 'x-request-id': id, 'x-correlation-id': id } })
    t.match(headers['x-request-id'], UUID, JSON.stringify(id).slice(0, 40))
    t.equal(headers['x-correlation-id'], headers['x-request-id'])
  }
})

test('takes the correlation id from the caller, else the request id', async (t) => {
  const app = await service()
  const { headers } = await app.inject({ url: '/', headers: { 'x-correlation-id': 'order-7' } })
  t.equal(headers['x-correlation-id'], 'order-7')
  t.match(headers['x-request-id'], UUID)
})

test('puts both on errors and unmatched routes', async (t) => {
  const app = await service()
  for (const url of ['/boom', '/nowhere']) {
    const { headers } = await app.inject({ url, headers: { 'x-request-id': 'r', 'x-correlation-id': 'c' } })
    t.match(headers, { 'x-request-id': 'r', 'x-correlation-id': 'c' }, url)
  }
})

test('reads and writes other headers on request', async (t) => {
  const app = await service({ header: 'X-Amzn-Trace-Id', correlationHeader: 'X-Flow' })
  const { headers } = await app.inject({ url: '/', headers: { 'x-amzn-trace-id': 'a', 'x-flow': 'f' } })
  t.match(headers, { 'x-amzn-trace-id': 'a', 'x-flow': 'f' })
})

test('refuses a header name that is none', async (t) => {
  const name = '@fastify-observability/request-id'
  await t.rejects(
    service({ header: 'a b' }),
    new TypeError(`${name}: option "header" must be a header name, got 'a b'`)
  )
})
