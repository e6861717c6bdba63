import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import tls from 'node:tls'
import { selfSigned } from '@fastify-observability/testing/certificate'
import { type Answer, startCollector } from '@fastify-observability/testing/collector'
import { withEnv } from '@fastify-observability/testing/environment'
import { freePorts } from '@fastify-observability/testing/ports'
import { STARVED_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { type Producer, produce, SIGNALS } from './producer.ts'

process.env.OTEL_BSP_SCHEDULE_DELAY = process.env.OTEL_BLRP_SCHEDULE_DELAY = '10'

interface Fault {
  name: string
  /** The answers to the first calls; the others are accepted. */
  grpc: Answer[]
  http: Answer[]
  /** Of 100 items. */
  counts: Record<string, number>
}

const UNAVAILABLE = { code: 14 }
const EXHAUSTED = { code: 8 }
const FAULTS: Fault[] = [
  { name: 'unavailable once', grpc: [UNAVAILABLE], http: [{ status: 503 }], counts: { exported: 100 } },
  {
    name: 'throttling, with a delay',
    grpc: [{ ...EXHAUSTED, retryAfterSeconds: 1 }],
    http: [{ status: 429, retryAfterSeconds: 1 }],
    counts: { exported: 100 }
  },
  {
    name: 'unavailable, with a delay',
    grpc: [{ ...UNAVAILABLE, retryAfterSeconds: 1 }],
    http: [{ status: 503, retryAfterSeconds: 1 }],
    counts: { exported: 100 }
  },
  { name: 'over its quota', grpc: [EXHAUSTED], http: [{ status: 402 }], counts: { export_failed: 100 } },
  { name: 'refusing for good', grpc: [{ code: 3 }], http: [{ status: 400 }], counts: { export_failed: 100 } },
  { name: 'unauthorized', grpc: [{ code: 16 }], http: [{ status: 401 }], counts: { export_failed: 100 } },
  {
    name: 'taking a part',
    grpc: [{ rejected: 30 }],
    http: [{ rejected: 30 }],
    counts: { exported: 70, rejected: 30 }
  },
  { name: 'slow', grpc: [{ delayMs: 300 }], http: [{ delayMs: 300 }], counts: { exported: 100 } }
]

function setProtocol(t: Test, protocol: 'grpc' | 'http/protobuf'): void {
  withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol })
}

function sumOf(counts: Record<string, number>): number {
  return Object.values(counts).reduce((sum, items) => sum + items, 0)
}

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  for (const [signal, start] of SIGNALS) {
    for (const { name, grpc, http, counts } of FAULTS) {
      test(`accounts for ${signal} over ${protocol} when the collector is ${name}`, async (t) => {
        setProtocol(t, protocol)
        const answers = protocol === 'grpc' ? grpc : http
        const collector = await startCollector({ protocol, answer: (call) => answers[call - 1] ?? 'accept' })
        t.teardown(() => collector.close())
        const producer = start(collector.url)
        producer.end(100)
        await producer.flush()
        t.same(producer.counts(), counts)
        t.equal(producer.received(collector).length, counts.exported ?? 0)
        await producer.close()
      })
    }

    test(`closes in time when no ${signal} are answered over ${protocol}`, async (t) => {
      setProtocol(t, protocol)
      const collector = await startCollector({ protocol, answer: () => 'never' })
      const producer = start(collector.url, 1_000)
      producer.end(100)
      const started = performance.now()
      await producer.close()
      t.ok(performance.now() - started < 1_000 + STARVED_MS)
      t.same(producer.counts(), { shutdown: 100 })
      await collector.close()
    })

    test(`counts ${signal} as lost over ${protocol} when the connection is refused until the end`, async (t) => {
      setProtocol(t, protocol)
      const [port] = await freePorts(1)
      const producer = start(`http://127.0.0.1:${port}`, 1_000)
      producer.end(100)
      const started = performance.now()
      await producer.close()
      t.ok(performance.now() - started < 1_000 + STARVED_MS)
      t.same(producer.counts(), { shutdown: 100 })
    })

    for (const fault of ['reset', 'garbage', 'a wrong certificate'] as const) {
      test(`accounts for ${signal} over ${protocol} when a connection ends in ${fault}`, async (t) => {
        setProtocol(t, protocol)
        const collector = await startCollector({ protocol })
        t.teardown(() => collector.close())
        const url = await frontOf(t, collector.url, fault)
        const producer = start(url)
        await delivered(producer)
        t.equal(sumOf(producer.counts()), 100)
        t.equal(producer.received(collector).length, producer.counts().exported ?? 0)
        // To gRPC an answer in another protocol is final.
        if (fault !== 'garbage' || protocol !== 'grpc') t.same(producer.counts(), { exported: 100 })
      })
    }
  }
}

test('sets no timer for the past when the time is up before a request is ready', async (t) => {
  setProtocol(t, 'http/protobuf')
  withEnv(t, { OTEL_EXPORTER_OTLP_TIMEOUT: '1', OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip' })
  const warnings: Error[] = []
  process.on('warning', (warning) => warnings.push(warning))
  const collector = await startCollector({ protocol: 'http/protobuf', answer: () => 'never' })
  t.teardown(() => collector.close())
  const producer = produce(collector.url, 200)
  producer.end(1)
  const busy = setInterval(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10))
  await collector.called(1)
  clearInterval(busy)
  await producer.close()
  t.same(warnings, [])
})

for (const [signal, start] of SIGNALS) {
  test(`sends ${signal} again when the collector says goodbye`, async (t) => {
    let calls = 0
    const server = http2.createServer().on('stream', (stream) => {
      if (++calls === 1) {
        stream.session?.goaway(0, 0)
        stream.session?.destroy()
        return
      }
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.resume().on('end', () => stream.end(Buffer.alloc(5)))
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => server.close())
    const producer = start(originOf(server))
    await delivered(producer)
    t.same(producer.counts(), { exported: 100 })
  })
}

async function delivered(producer: Producer): Promise<void> {
  producer.end(100)
  await producer.flush()
  await producer.close()
}

/** A way to the collector whose first connection does not hold. */
async function frontOf(t: Test, target: string, fault: 'reset' | 'garbage' | 'a wrong certificate'): Promise<string> {
  if (fault === 'a wrong certificate') return secureFrontOf(t, target)
  let connections = 0
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined)
    if (++connections > 1) {
      connect(socket, target)
    } else if (fault === 'reset') {
      socket.once('data', () => socket.resetAndDestroy())
    } else {
      socket.end('this is no answer\r\n\r\n')
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  return originOf(server)
}

/** A way to the collector that shows the certificate that is trusted to the second connection and those after it. */
async function secureFrontOf(t: Test, target: string): Promise<string> {
  const [trusted, other] = [selfSigned(), selfSigned()]
  withEnv(t, { OTEL_EXPORTER_OTLP_CERTIFICATE: trusted.file })
  const server = tls.createServer({ ...other, ALPNProtocols: ['h2', 'http/1.1'] }, (socket) => connect(socket, target))
  let connections = 0
  server.prependListener('connection', () => {
    if (++connections > 1) server.setSecureContext(trusted)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  return originOf(server).replace('http://127.0.0.1', 'https://localhost')
}

function connect(socket: net.Socket, target: string): void {
  const behind = net.connect(Number(new URL(target).port), '127.0.0.1').on('error', () => undefined)
  socket.on('error', () => undefined)
  socket.pipe(behind).pipe(socket)
}

function originOf(server: net.Server | http2.Http2Server): string {
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' && address?.port}`
}
