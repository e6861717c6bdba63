import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { startCollector } from '@fastify-observability/testing/collector'
import { freePorts } from '@fastify-observability/testing/ports'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { buildApp } from '../app.ts'

process.env.LOG_LEVEL = 'silent'

const PROMETHEUS = process.env.TEST_PROMETHEUS ?? 'prometheus'
const isThere = spawnSync(PROMETHEUS, ['--version']).status === 0
const TYPES = ['application/openmetrics-text; version=1.0.0; charset=utf-8', 'text/plain; version=0.0.4; charset=utf-8']
const SIGNUPS = 100

interface Result<Data> {
  status: string
  data: Data
}
interface Vector {
  result: { metric: Record<string, string>; value: [number, string] }[]
}
type Exemplars = {
  seriesLabels: Record<string, string>
  exemplars: { labels: { trace_id: string; span_id: string } }[]
}[]
interface Targets {
  activeTargets: { health: string; lastError: string }[]
}

/** Hands scrapes on to `port` as a Prometheus would that knows the text format only; notes what it gets. */
async function startTextOnly(t: Test, port: number, types: Set<string | undefined>): Promise<number> {
  const server = createServer((incoming, response) => {
    const headers = { ...incoming.headers, accept: 'text/plain;version=0.0.4' }
    request({ port, path: incoming.url, headers }, (answer) => {
      types.add(answer.headers['content-type'])
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    }).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return portOf(server.address())
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function startPrometheus(t: Test, jobs: Record<string, number>) {
  const directory = await mkdtemp(join(tmpdir(), 'prometheus-'))
  const [port = 0] = await freePorts(1)
  const scrapes = Object.entries(jobs).map(
    ([name, port]) => `  - { job_name: ${name}, static_configs: [{ targets: ['127.0.0.1:${port}'] }] }\n`
  )
  const config = `global: { scrape_interval: 1s, scrape_timeout: 1s }\nscrape_configs:\n${scrapes.join('')}`
  await writeFile(join(directory, 'prometheus.yaml'), config)
  const child: ChildProcess = spawn(
    PROMETHEUS,
    [
      `--config.file=${join(directory, 'prometheus.yaml')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage'
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] }
  )
  let log = ''
  child.stderr?.on('data', (chunk) => {
    log += chunk
  })
  t.teardown(async () => {
    const closed = once(child, 'close')
    child.kill()
    await closed
    await rm(directory, { recursive: true })
  })

  async function ask<Data>(path: string, parameters: Record<string, string> = {}): Promise<Data> {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}?${new URLSearchParams(parameters)}`)
    const { status, data }: Result<Data> = JSON.parse(await answer.text())
    t.equal(status, 'success', path)
    return data
  }

  /** Waits until the query has the value for every job. */
  async function becomes(query: string, value: number): Promise<void> {
    for (const deadline = Date.now() + PATIENCE_MS; ; await wait(200)) {
      const { result } = await ask<Vector>('query', { query }).catch(() => ({ result: [] }))
      const values = result.map(({ value: [, sample] }) => Number(sample))
      if (values.length === Object.keys(jobs).length && values.every((sample) => sample === value)) return
      if (Date.now() > deadline) throw new Error(`${query} is ${values.join(', ')} and not ${value}\n${log}`)
    }
  }

  return { ask, becomes, warnings: () => log.split('\n').filter((line) => /level=(warn|error)/.test(line)) }
}

test('a real Prometheus reads both formats', { skip: !isThere && 'no prometheus (TEST_PROMETHEUS)' }, async (t) => {
  const startedAt = Date.now()
  const collector = await startCollector()
  t.teardown(() => collector.close())
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector.url
  const app = await buildApp()
  t.teardown(() => app.close())
  const types = new Set<string | undefined>()
  app.addHook('onSend', async ({ url }, reply) => {
    if (url === '/metrics') types.add(String(reply.getHeader('content-type')))
  })
  const signUp = () =>
    fetch(`${url}/signups`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ role: 'buyer' })
    })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const port = Number(new URL(url).port)
  const series = 'http_server_request_duration_seconds_count{http_route="/signups"}'
  await (await signUp()).text()

  const prometheus = await startPrometheus(t, { openmetrics: port, text: await startTextOnly(t, port, types) })
  await prometheus.becomes(series, 1)
  await prometheus.becomes(`count_over_time(${series}[10m]) > bool 2`, 1)
  for (let n = 0; n < SIGNUPS; n++) await (await signUp()).text()
  await prometheus.becomes(series, SIGNUPS + 1)
  await prometheus.becomes(`count_over_time((${series} == ${SIGNUPS + 1})[10m:1s]) > bool 2`, 1)
  await prometheus.becomes(`max_over_time(${series}[10m]) - min_over_time(${series}[10m])`, SIGNUPS)
  // rate() looks past its first and last sample by at most half an interval each.
  await prometheus.becomes(
    `abs(rate(${series}[10m]) * 600 - ${SIGNUPS}) < bool ${SIGNUPS} * 1.2 / (count_over_time(${series}[10m]) - 1)`,
    1
  )
  await prometheus.becomes('app_user_signups_total', SIGNUPS + 1)
  await prometheus.becomes('up', 1)
  let { activeTargets } = await prometheus.ask<Targets>('targets')
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  while (activeTargets.some(({ health }) => health !== 'up')) {
    deadline.throwIfAborted()
    await wait(200)
    activeTargets = (await prometheus.ask<Targets>('targets')).activeTargets
  }
  t.match(activeTargets, [
    { health: 'up', lastError: '' },
    { health: 'up', lastError: '' }
  ])
  t.same([...types].sort(), TYPES)
  t.same(prometheus.warnings(), [])

  const exemplars = await prometheus.ask<Exemplars>('query_exemplars', {
    query: 'http_server_request_duration_seconds_bucket{http_route="/signups"}',
    start: String(startedAt / 1000),
    end: String(Date.now() / 1000 + 1)
  })
  const [exemplar] = exemplars.flatMap(({ exemplars }) => exemplars)
  const { trace_id, span_id } = exemplar?.labels ?? {}
  const span = await collector.span(({ traceId, spanId }) => traceId === trace_id && spanId === span_id)
  t.match(span, { name: 'POST /signups', kind: 'SERVER' })
  // A slow request is in another bucket, which has an exemplar of its own.
  t.same([...new Set(exemplars.map(({ seriesLabels }) => seriesLabels.job))], ['openmetrics'])
})
