import { once } from 'node:events'
import http from 'node:http'
import { defaultTextMapGetter, propagation, ROOT_CONTEXT } from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import { getBaggage, type TracingOptions, withBaggage } from '../src/index.ts'
import { strictBaggage } from '../src/propagation/w3c-baggage.ts'
import { TRACEPARENT, traced, withEnv } from './traced.ts'

/** What a service that is called below a request with baggage gets. */
async function exchange(t: Test, options: TracingOptions, headers: Record<string, string>) {
  const peer = http.createServer((request, response) => response.end(request.headers.baggage ?? 'none')).listen(0)
  await once(peer, 'listening')
  t.teardown(() => peer.close())
  const address = peer.address()
  const url = `http://127.0.0.1:${typeof address === 'object' && address?.port}`
  const declare = (app: FastifyInstance): void => {
    app.get('/', async () => ({ tenant: getBaggage('tenant') ?? 'none', sent: await (await fetch(url)).text() }))
    app.get('/more', async () => withBaggage({ plan: 'käse, 1=2' }, async () => (await fetch(url)).text()))
    app.get('/broken', async () => withBaggage({ '\ud800': '\udfff' }, async () => (await fetch(url)).text()))
  }
  const { app } = await traced(t, declare, options)
  const request = async (url: string): Promise<string> => (await app.inject({ url, headers })).body
  return { request, app }
}

test('neither accepts nor sends baggage unless asked', async (t) => {
  const { request } = await exchange(t, {}, { baggage: 'tenant=7' })
  t.same(JSON.parse(await request('/')), { tenant: 'none', sent: 'none' })
  t.equal(await request('/more'), 'none')
})

test('baggage: true takes it from the caller, hands it to the code and sends it on', async (t) => {
  const { request } = await exchange(t, { baggage: true }, { baggage: 'tenant=7' })
  t.same(JSON.parse(await request('/')), { tenant: '7', sent: 'tenant=7' })
  t.equal(await request('/more'), 'tenant=7,plan=k%C3%A4se%2C%201%3D2')
})

test('OTEL_PROPAGATORS asks for it too, and can do without the trace', async (t) => {
  withEnv(t, { OTEL_PROPAGATORS: 'baggage' })
  const { request } = await exchange(t, {}, { baggage: 'tenant=7', traceparent: TRACEPARENT })
  t.same(JSON.parse(await request('/')), { tenant: '7', sent: 'tenant=7' })
})

test('drops the baggage of an untrusted caller, with or without a trace', async (t) => {
  const kinds: Record<string, string>[] = [{}, { traceparent: TRACEPARENT }]
  for (const trace of kinds) {
    const headers = { baggage: 'tenant=7', ...trace }
    const { request, app } = await exchange(t, { baggage: true, trustInbound: false }, headers)
    t.same(JSON.parse(await request('/')), { tenant: 'none', sent: 'none' })
    await app.close()
  }
})

test('survives baggage that cannot be encoded', async (t) => {
  const { request } = await exchange(t, { baggage: true }, {})
  t.equal(await request('/broken'), '%EF%BF%BD=%EF%BF%BD')
})

const KEPT: [rule: string, sent: string, received: string][] = [
  ['an empty value', 'tenant=,plan=pro', 'tenant=,plan=pro'],
  ['a percent sign in a key', 'a%20b=1,100%=2', 'a%20b=1,100%=2'],
  ['the first of duplicates', 'tenant=7,tenant=8', 'tenant=7'],
  ['properties', 'tenant=7;ttl=3;p', 'tenant=7;ttl=3;p'],
  ['a percent sign that begins no escape', 'tenant=100%', 'tenant=100%25'],
  ['the members that fit', `a=1,b=${'x'.repeat(8_190)},c=3`, 'a=1,c=3'],
  ['a hundred and ninety members', many(190), many(190)],
  ['nothing of a member without a key', '=1,a b=2,c=3', 'c=3']
]

function many(count: number): string {
  return Array.from({ length: count }, (_, index) => `k${index}=${index}`).join(',')
}

for (const [rule, sent, received] of KEPT) {
  test(`keeps ${rule}`, async (t) => {
    const { request } = await exchange(t, { baggage: true }, { baggage: sent })
    t.equal(JSON.parse(await request('/')).sent, received)
  })
}

test('reads what is encoded, and a percent sign that begins no escape as it is', async (t) => {
  const carrier = { baggage: 'discount=100%,name=k%C3%A4se' }
  const baggage = propagation.getBaggage(strictBaggage().extract(ROOT_CONTEXT, carrier, defaultTextMapGetter))
  t.same(
    ['discount', 'name'].map((key) => baggage?.getEntry(key)?.value),
    ['100%', 'käse']
  )
})
