import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** What the load generator receives over IPC. */
export interface Load {
  url: string
  requests: number
  /** Requests a second, sent whether or not earlier ones are answered. Without one, each connection asks again at once. */
  perSecond?: number
}

/** What it reports. */
export interface Answered {
  seconds: number
  p50Ms: number
  p99Ms: number
}

const CONNECTIONS = 64
const HEADER_END = '\r\n\r\n'

/** One connection that has at most one request open. */
interface Lane {
  socket: Socket
  askedAt: number
  received: string
}

// wrk knows no number of requests and no rate, autocannon no latency below a millisecond; and one generator everywhere
// makes ratios of one machine worth comparing with those of another.
async function run({ url, requests, perSecond }: Load): Promise<Answered> {
  const { hostname, port, host, pathname } = new URL(url)
  const head = Buffer.from(`GET ${pathname} HTTP/1.1\r\nhost: ${host}\r\nuser-agent: bench/1\r\naccept: */*\r\n\r\n`)
  const { promise: finished, resolve, reject } = Promise.withResolvers<void>()
  const latencies = new Float64Array(requests)
  const waiting: number[] = []
  let sent = 0
  let answered = 0

  function ask(lane: Lane, since: number): void {
    lane.askedAt = since
    lane.socket.write(head)
  }

  function receive(lane: Lane, text: string): void {
    lane.received = lane.received === '' ? text : lane.received + text
    if (!isComplete(lane.received)) return
    if (!lane.received.startsWith('HTTP/1.1 200')) reject(new Error(`answered with ${lane.received.slice(0, 300)}`))
    lane.received = ''
    latencies[answered++] = performance.now() - lane.askedAt
    if (answered === requests) resolve()
    else next(lane)
  }

  function next(lane: Lane): void {
    if (perSecond === undefined) {
      if (sent++ < requests) ask(lane, performance.now())
      return
    }
    const since = waiting.shift()
    if (since === undefined) idle.push(lane)
    else ask(lane, since)
  }

  const idle: Lane[] = []
  const sockets: Socket[] = []
  for (let index = 0; index < CONNECTIONS; index++) {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true }).setEncoding('latin1')
    const lane: Lane = { socket, askedAt: 0, received: '' }
    socket.on('data', (text: string) => receive(lane, text))
    socket.on('error', reject)
    socket.on('end', () => reject(new Error('the server closed a connection')))
    idle.push(lane)
    sockets.push(socket)
  }
  await Promise.all(idle.map(({ socket }) => once(socket, 'connect')))

  const startedAt = performance.now()
  if (perSecond === undefined) {
    // With something to do at once, Node asks the kernel what has come and never sleeps. Waking it would be the server's
    // work, the more often the slower the server is.
    const stayAwake = (): void => void (answered < requests && setImmediate(stayAwake))
    stayAwake()
    for (const lane of idle.splice(0)) next(lane)
  } else {
    const pace = setInterval(() => {
      const now = performance.now()
      const due = Math.min(requests, Math.floor(((now - startedAt) * perSecond) / 1_000))
      for (; sent < due; sent++) {
        const lane = idle.pop()
        // A request that finds no connection waits, and its waiting counts.
        if (lane) ask(lane, now)
        else waiting.push(now)
      }
      if (sent === requests) clearInterval(pace)
    }, 1)
  }
  await finished
  const seconds = (performance.now() - startedAt) / 1_000
  for (const socket of sockets) socket.destroy()
  const sorted = latencies.sort()
  return { seconds, p50Ms: sorted[Math.floor(requests * 0.5)] ?? 0, p99Ms: sorted[Math.floor(requests * 0.99)] ?? 0 }
}

function isComplete(received: string): boolean {
  const end = received.indexOf(HEADER_END)
  if (end === -1) return false
  const length = /\r\ncontent-length: (\d+)/i.exec(received)?.[1]
  return received.length >= end + HEADER_END.length + Number(length)
}

process.on('disconnect', () => process.exit())
process.on('message', async (load: Load) => process.send?.(await run(load)))
