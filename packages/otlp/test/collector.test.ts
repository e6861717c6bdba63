import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from '@fastify-observability/testing/ports'
import { type Test, test } from 'tap'
import { withEnv } from './environment.ts'
import { SIGNALS } from './producer.ts'

const { TEST_COLLECTOR } = process.env
const skip = !TEST_COLLECTOR && 'TEST_COLLECTOR names no OpenTelemetry Collector'
const POLL_MS = 20

/** A collector with its default limits that writes what it receives to a file. */
async function realCollector(t: Test) {
  const [grpc = 0, http = 0] = await freePorts(2)
  const folder = t.testdir({})
  const path = join(folder, 'received.json')
  const pipelines = ['traces', 'logs', 'metrics'].map((name) => [name, { receivers: ['otlp'], exporters: ['file'] }])
  const configuration = {
    receivers: {
      otlp: { protocols: { grpc: { endpoint: `127.0.0.1:${grpc}` }, http: { endpoint: `127.0.0.1:${http}` } } }
    },
    exporters: { file: { path } },
    service: { pipelines: Object.fromEntries(pipelines), telemetry: { metrics: { level: 'none' } } }
  }
  const child = spawn(String(TEST_COLLECTOR), [`--config=yaml:${JSON.stringify(configuration)}`], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill()
    await ended
    await rm(folder, { recursive: true })
  })
  while (!(await accepts(grpc))) await sleep(POLL_MS)
  return {
    grpc: `http://127.0.0.1:${grpc}`,
    http: `http://127.0.0.1:${http}`,
    /** All that it has received, once it has ended. */
    async end(): Promise<string> {
      child.kill()
      await ended
      return readFile(path, 'utf8')
    }
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1')
  const isOpen = await Promise.race([
    once(socket, 'connect').then(() => true),
    once(socket, 'error').then(() => false)
  ]).catch(() => false)
  socket.destroy()
  return isOpen
}

const ITEMS = {
  spans: { count: 1_200, bytes: 12_000 },
  records: { count: 1_000, bytes: 10_000 },
  points: { count: 1_000, bytes: 1_000 }
}

for (const protocol of ['grpc', 'http/protobuf'] as const) {
  for (const [signal, start] of SIGNALS) {
    const { count, bytes } = ITEMS[signal]
    test(`delivers ${count} ${signal} of ${bytes} bytes to a real collector over ${protocol}`, { skip }, async (t) => {
      withEnv(t, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip' })
      const collector = await realCollector(t)
      const producer = start(protocol === 'grpc' ? collector.grpc : collector.http)
      producer.end(count, 'x'.repeat(bytes))
      await producer.close()
      t.same(producer.counts(), { exported: count })
      t.equal((await collector.end()).match(/"key":"padding"/g)?.length, count)
    })
  }
}
