import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** What the load generator receives over IPC. */
export interface Load {
  url: string
  /** Further paths of the same server: each request asks for the next one. */
  paths?: string[]
  requests: number
  /** Requests a second, sent whether or not earlier ones are answered. Without one, each connection asks again at once. */
  perSecond?: number
  /** No request is sent after so many seconds. */
  seconds?: number
  /** @default 64 */
  connections?: number
}

/** What it reports. */
export interface Answered {
  requests: number
  seconds: number
  p50Ms: number
  p99Ms: number
}

const CONNECTIONS = 64
// A server's queue of connections holds 511.
const CONNECTING = 200
// For the answers to what was sent last.
const PATIENCE_SECONDS = 30
const HEADER_END = '\r\n\r\n'

/** One connection that has at most one request open. */
interface Lane {
  socket: Socket
  askedAt: number
  received: string
}

// wrk knows no number of requests and no rate, autocannon no latency below a millisecond; and one generator everywhere
// makes ratios of one machine worth comparing with those of another.
async function run(
  { url, paths = [], requests, perSecond, seconds = Number.POSITIVE_INFINITY, connections = CONNECTIONS }: Load,
  report: (message: 'connected' | Answered) => Promise<void>
): Promise<void> {
  const { hostname, port, host, pathname } = new URL(url)
  const heads = [pathname, ...paths].map((path) =>
    Buffer.from(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nuser-agent: bench/1\r\naccept: */*\r\n\r\n`)
  )
  const { promise: finished, resolve, reject } = Promise.withResolvers<void>()
  const latencies: number[] = []
  const waiting: number[] = []
  let sent = 0
  let answered = 0
  let most = requests

  function ask(lane: Lane, since: number): void {
    lane.askedAt = since
    lane.socket.write(heads[sent % heads.length] ?? '')
  }

  function receive(lane: Lane, text: string): void {
    lane.received = lane.received === '' ? text : lane.received + text
    if (!isComplete(lane.received)) return
    if (!lane.received.startsWith('HTTP/1.1 200')) reject(new Error(`answered with ${lane.received.slice(0, 300)}`))
    lane.received = ''
    latencies.push(performance.now() - lane.askedAt)
    answered++
    if (answered === most) resolve()
    else next(lane)
  }

  function next(lane: Lane): void {
    if (perSecond === undefined) {
      if (sent < most) {
        ask(lane, performance.now())
        sent++
      }
      return
    }
    const since = waiting.shift()
    if (since === undefined) idle.push(lane)
    else ask(lane, since)
  }

  const idle: Lane[] = []
  const sockets: Socket[] = []
  for (let index = 0; index < connections; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true }).setEncoding('latin1')
    const lane: Lane = { socket, askedAt: 0, received: '' }
    socket.on('data', (text: string) => receive(lane, text))
    socket.on('error', reject)
    socket.on('end', () => reject(new Error('the server closed a connection')))
    idle.push(lane)
    sockets.push(socket)
    if (index % CONNECTING === CONNECTING - 1) await once(socket, 'connect')
  }
  await Promise.all(sockets.map((socket) => socket.connecting && once(socket, 'connect')))
  await report('connected')

  const startedAt = performance.now()
  if (perSecond === undefined) {
    // With something to do at once, Node asks the kernel what has come and never sleeps. Waking it would be the server's
    // work, the more often the slower the server is.
    const stayAwake = (): void => void (answered < most && setImmediate(stayAwake))
    stayAwake()
    for (const lane of idle.splice(0)) next(lane)
  } else {
    const pace = setInterval(() => {
      const now = performance.now()
      const due = Math.min(requests, Math.floor(((now - startedAt) * perSecond) / 1_000))
      for (; sent < due; sent++) {
        // The one that has rested longest: Fastify closes what rests for 72 seconds.
        const lane = idle.shift()
        // A request that finds no connection waits, and its waiting counts.
        if (lane) ask(lane, now)
        else waiting.push(now)
      }
      if (sent === requests) clearInterval(pace)
    }, 1)
  }
  const timers = Number.isFinite(seconds)
    ? [
        setTimeout(() => {
          most = sent
          if (answered === most) resolve()
        }, seconds * 1_000),
        setTimeout(
          () => reject(new Error(`${most - answered} requests have no answer after ${PATIENCE_SECONDS} s`)),
          (seconds + PATIENCE_SECONDS) * 1_000
        )
      ]
    : []
  await finished
  for (const timer of timers) clearTimeout(timer)
  const taken = (performance.now() - startedAt) / 1_000
  const sorted = Float64Array.from(latencies).sort()
  const slowest = (share: number): number => sorted[Math.floor(answered * share)] ?? 0
  await report({ requests: answered, seconds: taken, p50Ms: slowest(0.5), p99Ms: slowest(0.99) })
  for (const socket of sockets) socket.destroy()
}

function isComplete(received: string): boolean {
  const end = received.indexOf(HEADER_END)
  if (end === -1) return false
  const length = /\r\ncontent-length: (\d+)/i.exec(received)?.[1]
  return received.length >= end + HEADER_END.length + Number(length)
}

process.on('disconnect', () => process.exit())
for (;;) {
  const [load]: Load[] = await once(process, 'message')
  if (load) await run(load, answerOf)
  process.send?.('done')
}

/** Resolves when this may go on. */
async function answerOf(message: 'connected' | Answered): Promise<void> {
  process.send?.(message)
  await once(process, 'message')
}
