import { once } from 'node:events'
import { createServer, get, type IncomingMessage } from 'node:http'
import { json } from 'node:stream/consumers'
import Fastify from 'fastify'
import { test } from 'tap'
import observability from '../src/index.ts'

const GIVEN: [string, string[] | string[][], object][] = [
  [
    'a flat list',
    ['authorization', 'Bearer abc', 'Host', 'shop.example'],
    { authorization: 'Bearer abc', host: 'shop.example' }
  ],
  [
    'a list of pairs',
    [
      ['x-tenant', 't1'],
      ['host', 'shop.example']
    ],
    { 'x-tenant': 't1', host: 'shop.example' }
  ],
  ['a name twice', ['host', 'h', 'x-list', 'a', 'X-List', 'b'], { host: 'h', 'x-list': 'a, b' }]
]

test('sends headers given as a list as they are, and adds ids and traceparent', async (t) => {
  const peer = createServer((request, response) => response.end(JSON.stringify(request.headers)))
  await once(peer.listen(0, '127.0.0.1'), 'listening')
  const address = peer.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const app = Fastify()
  await app.register(observability, { logging: false })
  t.teardown(() => Promise.all([app.close(), peer.close()]))
  app.get<{ Params: { index: number } }>('/:index', async ({ params: { index } }) => {
    const headers = GIVEN[index]?.[1] as string[]
    const [response]: IncomingMessage[] = await once(get({ port, host: '127.0.0.1', headers }), 'response')
    return response && json(response)
  })
  for (const [index, [title, , expected]] of GIVEN.entries()) {
    const { headers, body } = await app.inject(`/${index}`)
    const { connection: _, traceparent, ...sent } = JSON.parse(body)
    t.match(traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, title)
    const ids = { 'x-request-id': headers['x-request-id'], 'x-correlation-id': headers['x-correlation-id'] }
    t.same(sent, { ...expected, ...ids })
  }
})
