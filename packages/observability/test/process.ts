import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { type Agent, get } from 'node:http'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Collector, type CollectorOptions, startCollector } from '@fastify-observability/testing/collector'
import { type Ingest, startIngest } from '@fastify-observability/testing/ingest'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import type { Test } from 'tap'

export type Line = Record<string, unknown> & { msg: string }

export interface Service {
  child: ChildProcess
  origin: string
  lines: Line[]
  /** Resolves with the first line of that message, or a later one of it. */
  line(message: string, nth?: number): Promise<Line>
  /** Everything is read, and the process has ended with this code. */
  ended: Promise<number | null>
}

/** What a service delivers to, and the variables by which it does. */
export interface Receivers {
  collector: Collector
  ingest: Ingest
  env: NodeJS.ProcessEnv
}

const LISTENING = 'Server listening at '

export async function startReceivers(t: Test, options: CollectorOptions = {}): Promise<Receivers> {
  const [collector, ingest] = await Promise.all([startCollector(options), startIngest()])
  t.teardown(() => Promise.all([collector.close(), ingest.close()]))
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_METRICS_EXPORTER: 'otlp',
    SENTRY_DSN: ingest.dsn
  }
  return { collector, ingest, env }
}

export async function start(
  t: Test,
  env: NodeJS.ProcessEnv = {},
  script = 'ending.ts',
  [command = process.execPath, ...args]: string[] = []
): Promise<Service> {
  const child = spawn(command, [...args, fileURLToPath(new URL(script, import.meta.url))], {
    env: { ...process.env, LOG_FORMAT: 'json', ...env },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => child.kill('SIGKILL'))
  const lines: Line[] = []
  const arrivals = new EventEmitter<{ line: [] }>()
  createInterface({ input: child.stdout }).on('line', (text) => {
    // One that was killed may leave half a line.
    if (!text.endsWith('}')) return
    lines.push(JSON.parse(text))
    arrivals.emit('line')
  })
  async function line(message: string, nth = 1): Promise<Line> {
    for (;;) {
      const found = lines.filter(({ msg }) => msg.startsWith(message))[nth - 1]
      if (found) return found
      await once(arrivals, 'line')
    }
  }
  const ended = once(child, 'close').then(([code]) => code)
  const { msg } = await line(LISTENING)
  return { child, lines, line, ended, origin: msg.slice(LISTENING.length) }
}

export async function statusOf(url: string, agent?: Agent): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  get(url, { agent, timeout: PATIENCE_MS }, (response) => {
    response.resume()
    response.on('end', () => resolve(response.statusCode ?? 0)).on('error', reject)
  })
    .on('error', reject)
    .on('timeout', () => reject(new Error('no answer')))
  return await promise
}

/** Resolves when the URL answers with 200. */
export async function answers(url: string): Promise<void> {
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  while ((await statusOf(url).catch(() => 0)) !== 200) {
    deadline.throwIfAborted()
    await wait(50)
  }
}
