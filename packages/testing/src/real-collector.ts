import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePorts } from './ports.ts'

/** An OpenTelemetry Collector with its default limits that writes all that it receives to a file. */
export interface RealCollector {
  /** Base URLs. */
  grpc: string
  http: string
  /** Ends the collector. Resolves with what it has written: requests in OTLP's JSON, one a line. */
  end(): Promise<string>
  close(): Promise<void>
}

/** Why a test without a collector is skipped, else `false`. */
export const noCollector = !process.env.TEST_COLLECTOR && 'TEST_COLLECTOR names no OpenTelemetry Collector'

const POLL_MS = 20

/** Starts the executable that TEST_COLLECTOR names. */
export async function startRealCollector(): Promise<RealCollector> {
  const [grpc = 0, http = 0] = await freePorts(2)
  const folder = await mkdtemp(join(tmpdir(), 'collector-'))
  const path = join(folder, 'received.json')
  const pipelines = ['traces', 'logs', 'metrics'].map((name) => [name, { receivers: ['otlp'], exporters: ['file'] }])
  const configuration = {
    receivers: {
      otlp: { protocols: { grpc: { endpoint: `127.0.0.1:${grpc}` }, http: { endpoint: `127.0.0.1:${http}` } } }
    },
    exporters: { file: { path } },
    service: { pipelines: Object.fromEntries(pipelines), telemetry: { metrics: { level: 'none' } } }
  }
  const program = String(process.env.TEST_COLLECTOR)
  const child = spawn(program, [`--config=yaml:${JSON.stringify(configuration)}`], { stdio: 'ignore' })
  while (!(await accepts(grpc))) await sleep(POLL_MS)
  return {
    grpc: `http://127.0.0.1:${grpc}`,
    http: `http://127.0.0.1:${http}`,
    async end() {
      await stop(child)
      return readFile(path, 'utf8')
    },
    async close() {
      await stop(child)
      await rm(folder, { recursive: true })
    }
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill()
  await ended
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
