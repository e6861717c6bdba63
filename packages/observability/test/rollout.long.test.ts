import { spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type Collector, startCollector } from '@fastify-observability/testing/collector'
import { freePorts } from '@fastify-observability/testing/ports'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { answers, start, statusOf } from './process.ts'

/** Sends 200 requests a second over kept connections until told to stop; resolves with what came back. */
function sendRequests(origin: string): { stop: () => Promise<{ sent: number; failures: unknown[] }> } {
  const agent = new Agent({ keepAlive: true })
  const answers: Promise<unknown>[] = []
  const startedAt = performance.now()
  const timer = setInterval(() => {
    while (answers.length < (performance.now() - startedAt) / 5) {
      answers.push(statusOf(`${origin}/orders/7`, agent).catch((error) => error))
    }
  }, 5)
  return {
    async stop() {
      clearInterval(timer)
      const settled = await Promise.all(answers)
      agent.destroy()
      return { sent: answers.length, failures: settled.filter((answer) => answer !== 200) }
    }
  }
}

async function rollOut(t: Test, collector: Collector) {
  const name = `rolled-${Math.random()}`
  const { child, origin, lines, ended } = await start(t, {
    SHUTDOWN: 'true',
    OTEL_SERVICE_NAME: name,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url
  })
  const traffic = sendRequests(origin)
  await wait(500)
  t.equal(await statusOf(`${origin}/health/ready`), 200)
  child.kill('SIGTERM')
  while ((await statusOf(`${origin}/health/ready`)) !== 503) await wait(5)
  await wait(1_000)
  const { sent, failures } = await traffic.stop()
  const code = await ended
  const completed = lines.filter(({ route }) => route === '/orders/:id').length
  const spans = collector.spans.filter(({ resource }) => resource['service.name'] === name).length
  return { sent, failures, code, completed, spans, last: lines.at(-1) }
}

test('loses no request, line or span in ten roll-outs under 200 requests a second', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  for (let pair = 0; pair < 5; pair++) {
    const runs = await Promise.all([rollOut(t, collector), rollOut(t, collector)])
    for (const { sent, failures, code, completed, spans, last } of runs) {
      t.same(failures, [], `${sent} requests`)
      t.equal(code, 0)
      t.same([completed, spans], [sent, sent])
      t.match(last, { level: 'info', msg: 'shutdown finished', signal: 'SIGTERM', dropped: {} })
    }
  }
})

const NO_HAPROXY = spawnSync('haproxy', ['-v']).status !== 0 && 'there is no haproxy on the PATH'

async function startProxy(t: Test, ports: number[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'haproxy-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const [port = 0] = await freePorts(1)
  const servers = ports.map((port) => `server s${port} 127.0.0.1:${port} check inter 300ms fall 2 rise 1`)
  await writeFile(
    join(folder, 'haproxy.cfg'),
    `
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout check 2s
frontend all
  bind 127.0.0.1:${port}
  stats enable
  stats uri /stats
  default_backend orders
backend orders
  option httpchk GET /health/ready
  ${servers.join('\n  ')}
`
  )
  const haproxy = spawn('haproxy', ['-db', '-f', join(folder, 'haproxy.cfg')], { stdio: 'ignore' })
  t.teardown(() => haproxy.kill('SIGKILL'))
  return `http://127.0.0.1:${port}`
}

/** Resolves when the proxy has found all its servers ready. */
async function allUp(proxy: string, servers: number): Promise<void> {
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  for (let up = 0; up < servers; ) {
    deadline.throwIfAborted()
    await wait(50)
    const table = await fetch(`${proxy}/stats;csv`).then((response) => response.text())
    up = table.split('\n').filter((row) => /^orders,s\d+,.*,UP,/.test(row)).length
  }
}

test('loses no request behind a haproxy that asks /health/ready', { skip: NO_HAPROXY }, async (t) => {
  const ports = await freePorts(2)
  const env = (port: number | undefined) => ({ SHUTDOWN: 'true', PORT: String(port) })
  const services = await Promise.all(ports.map((port) => start(t, env(port))))
  const proxy = await startProxy(t, ports)
  await answers(`${proxy}/orders/7`)
  await allUp(proxy, 2)
  const traffic = sendRequests(proxy)
  for (const [index, { child, ended }] of services.entries()) {
    await wait(500)
    child.kill('SIGTERM')
    t.equal(await ended, 0)
    await start(t, env(ports[index]))
    await allUp(proxy, 2)
  }
  const { sent, failures } = await traffic.stop()
  t.same(failures, [], `${sent} requests`)
})
