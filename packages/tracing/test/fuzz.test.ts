import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net, { type Socket } from 'node:net'
import { test } from 'tap'
import { TRACEPARENT, traced } from './traced.ts'

const REQUESTS = 10_000
const PIECES = [
  TRACEPARENT,
  ...['00', 'ff', '-', '--', '01', '0'.repeat(32), '=', ',', ';', ' ', '\t', '%', '%ff', '%00', '@', '*', '/', '"'],
  ...[
    'a=b',
    'tenant=7',
    'key@vendor=value',
    'é',
    '\xff',
    'x'.repeat(300),
    '__proto__=1',
    'a=b;p=q',
    'congo=t61rcWkgMzE'
  ]
]

function noise(): string {
  return Array.from({ length: randomInt(0, 12) }, () => {
    const piece = PIECES[randomInt(PIECES.length)] ?? ''
    return randomInt(4) === 0 ? piece.slice(randomInt(piece.length)) : piece
  }).join('')
}

/** Requests over one connection, one answer after the other. */
async function send(socket: Socket, headers: Record<string, string>): Promise<number> {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`GET / HTTP/1.1\r\nhost: x\r\n${lines.join('')}\r\n`, 'latin1')
  let answer = ''
  while (!answer.includes('\r\n\r\nok')) answer += (await once(socket, 'data'))[0]
  return Number(answer.slice(9, 12))
}

test(`answers ${REQUESTS} requests with fuzzed traceparent, tracestate and baggage`, async (t) => {
  const peer = http.createServer((_, response) => response.end('ok')).listen(0)
  await once(peer, 'listening')
  t.teardown(() => peer.close())
  const address = peer.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
  const { app } = await traced(
    t,
    (app) => {
      let calls = 0
      // What came in must be fit to go out again.
      app.get('/', async () => (calls++ % 10 === 0 ? (await fetch(url)).text() : 'ok'))
    },
    { baggage: true }
  )
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }))
  const socket = net.connect(Number(port), '127.0.0.1')
  const statuses = new Map<number, number>()
  for (let request = 0; request < REQUESTS; request++) {
    const status = await send(socket, { traceparent: noise(), tracestate: noise(), baggage: noise() })
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  socket.destroy()
  t.same([...statuses], [[200, REQUESTS]])
})
