import { once } from 'node:events'
import http from 'node:http'
import { json } from 'node:stream/consumers'
import { type Test, test } from 'tap'
import type { TracingOptions } from '../src/index.ts'
import { TRACE_ID, TRACEPARENT, traced } from './traced.ts'

/** What a service receives that a traced request calls, in every way that there is. */
async function received(t: Test, headers: string[], options: TracingOptions = {}): Promise<Record<string, string[]>> {
  const peer = http.createServer(({ rawHeaders }, response) => response.end(JSON.stringify(rawHeaders))).listen(0)
  await once(peer, 'listening')
  t.teardown(() => peer.close())
  const address = peer.address()
  const url = `http://localhost:${typeof address === 'object' && address?.port}`
  const pairs = Array.from({ length: headers.length / 2 }, (_, index) => headers.slice(2 * index, 2 * index + 2))
  const { app } = await traced(
    t,
    (app) => {
      const over = async (headers: http.OutgoingHttpHeaders | string[]) => {
        const [response] = await once(http.get(url, { headers }), 'response')
        return json(response)
      }
      app.get('/', async () => ({
        fetch: await (await fetch(url, { headers: Object.fromEntries(pairs) })).json(),
        object: await over(Object.fromEntries(pairs)),
        list: await over([...headers, 'host', 'localhost'])
      }))
    },
    options
  )
  return (await app.inject({ url: '/', headers: { traceparent: TRACEPARENT, tracestate: 'a=1' } })).json()
}

function valuesOf(raw: string[], name: string): string[] {
  return raw.filter((_, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === name)
}

test('sends one traceparent, its own, whatever the caller forwards', async (t) => {
  const forwarded = `00-${'9'.repeat(32)}-${'9'.repeat(16)}-01`
  for (const [way, raw] of Object.entries(await received(t, ['Traceparent', forwarded, 'tracestate', 'b=2']))) {
    const [traceparent, ...others] = valuesOf(raw, 'traceparent')
    t.match(traceparent, `00-${TRACE_ID}-`, way)
    t.same(others, [])
    t.same(valuesOf(raw, 'tracestate'), ['a=1'])
  }
})

test('propagateTo holds for what the caller forwards too', async (t) => {
  const ways = await received(t, ['traceparent', TRACEPARENT, 'x-tenant', '7'], { propagateTo: ['payments.example'] })
  for (const [way, raw] of Object.entries(ways)) {
    t.same(valuesOf(raw, 'traceparent'), [], way)
    t.same(valuesOf(raw, 'x-tenant'), ['7'])
  }
})

test('leaves headers given as a list as they are', async (t) => {
  const { list = [] } = await received(t, ['Authorization', 'Bearer abc', 'X-Tenant', '7', 'x-tenant', '8'])
  t.same(valuesOf(list, 'authorization'), ['Bearer abc'])
  t.same(valuesOf(list, 'x-tenant'), ['7', '8'])
  t.same(valuesOf(list, 'host'), ['localhost'])
  t.notOk(list.includes('0'))
})
