import { once } from 'node:events'
import { Agent, type IncomingMessage, type RequestOptions, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { isDeepStrictEqual } from 'node:util'

/**
 * What is no difference, beside the plain app's answer: that none comes, because there are no connections; or that the service
 * ends, so that none comes, or 503, or one that asks the client to leave.
 */
type Tolerance = 'nothing' | 'silence' | 'end'

/** Requests at a constant rate, whatever becomes of the answers, which are compared with those of a plain app. */
export interface Traffic {
  sent: number
  answered: number
  /** How often a request to /boom was answered. */
  failures: number
  /** What did not come as the plain app answers, by kind, and how often. */
  differences: Map<string, number>
  tolerance: Tolerance
  /** Resolves when the last request is answered or has failed. */
  stop(): Promise<void>
}

/** One after the other. Of each twelve one fails with 500. */
const REQUESTS: readonly { method: string; path: string; body?: string; headers?: Record<string, string> }[] = [
  { method: 'GET', path: '/orders/7' },
  { method: 'GET', path: '/text', headers: { 'x-request-id': 'caller-1', 'accept-encoding': 'gzip' } },
  { method: 'GET', path: '/stream' },
  { method: 'GET', path: '/boom?token=hidden' },
  { method: 'POST', path: '/echo', body: '{"a":1}', headers: { 'content-type': 'application/json' } },
  { method: 'GET', path: '/empty' },
  { method: 'POST', path: '/echo', body: '{"a":', headers: { 'content-type': 'application/json' } },
  { method: 'GET', path: '/nowhere' },
  { method: 'GET', path: '/late', headers: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' } },
  { method: 'HEAD', path: '/orders/8' },
  { method: 'GET', path: '/status/418' },
  { method: 'GET', path: '/redirect' }
]
const INTERVAL_MS = 20
/** What the suite adds, as its README says, and what differs from call to call. */
const DOCUMENTED = new Set(['x-request-id', 'x-correlation-id', 'server-timing', 'date'])

interface Answer {
  status: number | undefined
  headers: string[]
  body: string
}

/** How an app answers each of the requests. */
export async function answersOf(origin: string): Promise<Answer[]> {
  const agent = new Agent({ keepAlive: true })
  const answers: Answer[] = []
  for (const index of REQUESTS.keys()) answers.push(await answerTo(origin, index, agent))
  agent.destroy()
  return answers
}

export function startTraffic(origin: string, expected: Answer[]): Traffic {
  const agent = new Agent({ keepAlive: true })
  const pending = new Set<Promise<void>>()

  async function ask(index: number): Promise<void> {
    const { tolerance } = traffic
    try {
      const answer = await answerTo(origin, index, agent)
      traffic.answered++
      if (REQUESTS[index]?.path.startsWith('/boom')) traffic.failures++
      if (isDeepStrictEqual(answer, expected[index])) return
      if (!(traffic.tolerance === 'end' && isClosing(answer, expected[index])))
        note(index, JSON.stringify(answer).slice(0, 200))
    } catch (error) {
      // What was asked in the fault may fail after it.
      if (tolerance === 'nothing' && traffic.tolerance === 'nothing') note(index, String(error))
    }
  }
  function note(index: number, what: string): void {
    const kind = `${REQUESTS[index]?.method} ${REQUESTS[index]?.path}: ${what}`
    traffic.differences.set(kind, (traffic.differences.get(kind) ?? 0) + 1)
  }
  const timer = setInterval(() => {
    const answered: Promise<void> = ask(traffic.sent++ % REQUESTS.length).finally(() => pending.delete(answered))
    pending.add(answered)
  }, INTERVAL_MS)

  const traffic: Traffic = {
    sent: 0,
    answered: 0,
    failures: 0,
    differences: new Map(),
    tolerance: 'nothing',
    async stop() {
      clearInterval(timer)
      await Promise.all(pending)
      agent.destroy()
    }
  }
  return traffic
}

/** Whether the answer is the plain app's but for what asks clients to leave, or refuses them. */
function isClosing({ status, headers, body }: Answer, expected: Answer | undefined): boolean {
  if (status === 503) return true
  if (expected === undefined) return false
  const isEqual = (one: string[], other: string[]) => isDeepStrictEqual(one.filter(isKept), other.filter(isKept))
  return status === expected.status && body === expected.body && isEqual(headers, expected.headers)
}

function isKept(header: string): boolean {
  return !header.startsWith('connection: ') && !header.startsWith('keep-alive: ')
}

async function answerTo(origin: string, index: number, agent: Agent): Promise<Answer> {
  const { method, path, headers = {}, body } = REQUESTS[index] ?? { method: 'GET', path: '/' }
  const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
  const response = await responseTo(
    origin,
    { method, path, agent, headers: { host: 'shop', ...headers, ...length } },
    body
  )
  const { statusCode: status, rawHeaders } = response
  return { status, headers: undocumented(rawHeaders), body: await text(response) }
}

/** Resolves with the head of the answer. */
export async function responseTo(origin: string, options: RequestOptions, body?: string): Promise<IncomingMessage> {
  const asked = request(origin, options)
  const answered = once(asked, 'response')
  asked.end(body)
  const [response] = await answered
  // What comes after the answer's head is reported by the answer.
  asked.on('error', () => undefined)
  return response
}

function undocumented(rawHeaders: string[]): string[] {
  const pairs = rawHeaders.flatMap((name, index) =>
    index % 2 ? [] : [`${name.toLowerCase()}: ${rawHeaders[index + 1]}`]
  )
  return pairs.filter((pair) => !DOCUMENTED.has(pair.slice(0, pair.indexOf(':')))).sort()
}
