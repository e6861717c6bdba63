import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import net, { type Socket } from 'node:net'
import fc from 'fast-check'
import { test } from 'tap'
import { TRACEPARENT, traced } from './traced.ts'

const REQUESTS = 10_000
/** What has failed is run again by its number. */
const SEED = Number(process.env.FUZZ_SEED) || randomInt(2 ** 31)
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

const piece = fc.constantFrom(...PIECES)
const part = fc.tuple(piece, fc.nat(TRACEPARENT.length)).map(([text, from]) => text.slice(from))
const noise = fc
  .array(fc.oneof({ arbitrary: piece, weight: 3 }, part), { maxLength: 11 })
  .map((pieces) => pieces.join(''))

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
  const headers = fc.record({ traceparent: noise, tracestate: noise, baggage: noise })
  for (const sample of fc.sample(headers, { numRuns: REQUESTS, seed: SEED })) {
    const status = await send(socket, sample)
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  socket.destroy()
  t.same([...statuses], [[200, REQUESTS]], `FUZZ_SEED=${SEED}`)
})
