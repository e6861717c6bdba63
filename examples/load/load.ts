import { randomInt } from 'node:crypto'
import { get } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'

export interface LoadOptions {
  /** The orders service. */
  url: string
  /** Ends it: requests under way are abandoned. */
  signal: AbortSignal
}

/** What became of the requests: the status and how often, `aborted` for those that were abandoned, `failed` for no answer. */
export type Tally = Record<string, number>

type Visit = (options: LoadOptions) => Promise<string>

const ANSWER_MS = 10_000
const GIVE_UP_MS = 100

// A day in the shop in a hundred requests, which every run of as many sends whole, in another order.
const VISITS: [number, Visit][] = [
  [40, order],
  [20, (options) => ask(options, 'GET', `/orders/${lastOrder || 'unknown'}`)],
  [12, (options) => ask(options, 'GET', `/slow?ms=${randomInt(5, 250)}`)],
  [10, (options) => ask(options, 'POST', '/signups', { role: pick(['buyer', 'seller', 'admin']) })],
  [5, (options) => ask(options, 'GET', '/orders/export')],
  [4, (options) => ask(options, 'GET', '/orders/unknown')],
  [2, (options) => ask(options, 'GET', '/no/such/route')],
  [2, (options) => ask(options, 'POST', '/orders', { amount: 1 })],
  // More than payments takes.
  [1, (options) => ask(options, 'POST', '/orders', { customer: 'grace', amount: 100_001 })],
  [1, (options) => ask(options, 'GET', '/boom')],
  [1, (options) => ask(options, 'GET', `/slow?ms=${randomInt(800, 1500)}`)],
  [2, abandon]
]
const CUSTOMERS = ['ada', 'grace', 'edsger', 'barbara', 'alan']

let lastOrder = ''

/** The order of the next hundred visits. */
function shuffled(): Visit[] {
  const visits = VISITS.flatMap(([times, visit]) => Array<Visit>(times).fill(visit))
  for (let index = visits.length - 1; index > 0; index--) {
    const other = randomInt(index + 1)
    const [one, two] = [visits[index], visits[other]]
    if (one && two) visits.splice(index, 1, two) && visits.splice(other, 1, one)
  }
  return visits
}

/** Sends one of every kind, the frequent ones first, and resolves with what became of them. */
export async function sendOneOfEach(options: LoadOptions): Promise<Tally> {
  const tally: Tally = {}
  for (const [, visit] of VISITS) await count(tally, visit, options)
  return tally
}

/** Sends so many requests a second until the signal comes, without waiting for the answers, as users do. */
export async function sendLoad(
  perSecond: number,
  options: LoadOptions,
  report: (tally: Tally) => void,
  reportMs = 30_000
): Promise<void> {
  let tally: Tally = {}
  const said = setInterval(() => {
    report(tally)
    tally = {}
  }, reportMs)
  try {
    while (!options.signal.aborted) {
      for (const visit of shuffled()) {
        void count(tally, visit, options)
        await wait(1000 / perSecond, undefined, { signal: options.signal })
      }
    }
  } catch (error) {
    if (!options.signal.aborted) throw error
  } finally {
    clearInterval(said)
  }
}

async function count(tally: Tally, visit: Visit, options: LoadOptions): Promise<void> {
  const outcome = await visit(options).catch(() => 'failed')
  tally[outcome] = (tally[outcome] ?? 0) + 1
}

async function order(options: LoadOptions): Promise<string> {
  const { response, text } = await send(options, 'POST', '/orders', {
    customer: pick(CUSTOMERS),
    amount: randomInt(100, 90_000)
  })
  if (response.status === 201) lastOrder = JSON.parse(text).id
  return String(response.status)
}

async function ask(options: LoadOptions, method: string, path: string, body?: object): Promise<string> {
  const { response } = await send(options, method, path, body)
  return String(response.status)
}

async function send({ url, signal }: LoadOptions, method: string, path: string, body?: object) {
  const response = await fetch(url + path, {
    method,
    signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  })
  return { response, text: await response.text() }
}

/** Asks for something slow and hangs up. */
async function abandon({ url }: LoadOptions): Promise<string> {
  const request = get(`${url}/slow?ms=20000`)
  // Destroyed before the answer, it ends in "socket hang up".
  request.on('error', () => undefined)
  await wait(GIVE_UP_MS)
  request.destroy()
  return 'aborted'
}

function pick<Value>(values: [Value, ...Value[]] | Value[]): Value | undefined {
  return values[randomInt(values.length)]
}
