import { randomUUID } from 'node:crypto'
import { get } from 'node:http'
import { within } from './deadline.ts'
import type { Service } from './service.ts'

/** One request of the round, and what must come of it. */
export interface Exchange {
  method: string
  path: string
  route: string
  /** What the route must answer; 499 for a request that the client abandons. */
  status: number
  aborted: boolean
  /** What it answered, `undefined` for a request that the client abandoned. */
  answered: number | undefined
  /** From the response header, or as sent by a request that the client abandoned. */
  requestId: string
}

export interface Round {
  exchanges: Exchange[]
  /** The order that was placed, charged and stored. */
  order: Exchange
  /** The one that failed. */
  failure: Exchange
}

const ANSWER_MS = 15_000

/** Sends the orders service one request of every kind. */
export async function sendRound(orders: Service): Promise<Round> {
  async function ask(method: string, path: string, route: string, status: number, body?: object) {
    const response = await fetch(orders.url + path, {
      method,
      signal: AbortSignal.timeout(ANSWER_MS),
      ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
    })
    const requestId = response.headers.get('x-request-id') ?? 'none'
    const text = await response.text()
    const exchange: Exchange = { method, path, route, status, aborted: false, answered: response.status, requestId }
    return { exchange, text }
  }

  const placed = await ask('POST', '/orders', '/orders', 201, { customer: 'ada', amount: 4200 })
  const { id } = JSON.parse(placed.text)
  const read = await ask('GET', `/orders/${id}`, '/orders/:id', 200)
  const missing = await ask('GET', '/orders/unknown', '/orders/:id', 404)
  const failure = await ask('GET', '/boom', '/boom', 500)
  const exported = await ask('GET', '/orders/export', '/orders/export', 200)
  const signup = await ask('POST', '/signups', '/signups', 201, { role: 'buyer' })
  const abandoned = await abandon(orders)

  return {
    exchanges: [...[placed, read, missing, failure, exported, signup].map(({ exchange }) => exchange), abandoned],
    order: placed.exchange,
    failure: failure.exchange
  }
}

/** Asks for something slow and hangs up as soon as the service works on it. */
async function abandon(orders: Service): Promise<Exchange> {
  const requestId = `demo-${randomUUID()}`
  const request = get(`${orders.url}/slow?ms=20000`, { headers: { 'x-request-id': requestId } })
  // Destroyed before the answer, it ends in "socket hang up".
  request.on('error', () => undefined)
  await within(
    ANSWER_MS,
    orders.line((line) => line.request_id === requestId && line.msg === 'waiting')
  )
  request.destroy()
  return {
    method: 'GET',
    path: '/slow?ms=20000',
    route: '/slow',
    status: 499,
    aborted: true,
    answered: undefined,
    requestId
  }
}
