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

/** More requests than this are not under way: a busy machine is sent as many as it answers. */
const MOST_OPEN = 20

/** Sends up to 200 requests a second over kept connections until told to stop; resolves with what came back. */
function sendRequests(origin: string): { stop: () => Promise<{ sent: number; failures: unknown[] }> } {
  const agent = new Agent({ keepAlive: true })
  const answers: Promise<unknown>[] = []
  let open = 0
  const timer = setInterval(() => {
    if (open === MOST_OPEN) return
    open++
    const answer = statusOf(`${origin}/orders/7`, agent).catch((error) => error)
    answers.push(answer.finally(() => open--))
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

async function rollOut(t: Test, collector: Collector, delayMs: number) {
  const name = `rolled-${Math.random()}`
  const { child, origin, lines, ended } = await start(t, {
    SHUTDOWN: JSON.stringify({ delayMs }),
    OTEL_SERVICE_NAME: name,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url
  })
  const traffic = sendRequests(origin)
  await wait(500)
  const ready = await statusOf(`${origin}/health/ready`)
  const toldAt = performance.now()
  child.kill('SIGTERM')
  // A service that has ended already refuses the question; see `inTime`.
  while ((await statusOf(`${origin}/health/ready`).catch(() => 503)) !== 503) await wait(5)
  await wait(1_000)
  const { sent, failures } = await traffic.stop()
  const inTime = performance.now() - toldAt < delayMs
  const code = await ended
  const completed = lines.filter(({ route }) => route === '/orders/:id').length
  const spans = collector.spans.filter(({ resource }) => resource['service.name'] === name).length
  return { inTime, ready, sent, failures, code, completed, spans, last: lines.at(-1) }
}

test('loses no request, line or span in ten roll-outs under traffic', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  let delayMs = 5_000
  for (let done = 0; done < 10; ) {
    const runs = await Promise.all([rollOut(t, collector, delayMs), rollOut(t, collector, delayMs)])
    const late = runs.some(({ inTime }) => !inTime)
    for (const run of runs) {
      // On a busy machine requests came after the delay, and a service that ends then is right: there is nothing to see.
      if (!run.inTime) continue
      done++
      const { ready, sent, failures, code, completed, spans, last } = run
      t.equal(ready, 200)
      t.same(failures, [], `${sent} requests`)
      t.equal(code, 0)
      t.same([completed, spans], [sent, sent])
      t.match(last, { level: 'info', msg: 'shutdown finished', signal: 'SIGTERM' })
      t.same(last?.dropped, {})
    }
    if (late) delayMs *= 2
    if (delayMs > 60_000) throw new Error('this machine is too busy to send requests within the delay')
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
  timeout connect 30s
  timeout client 30s
  timeout server 30s
  timeout check 30s
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
  // The proxy of a busy machine asks in time too.
  const env = (port: number | undefined) => ({ SHUTDOWN: '{"delayMs":20000}', PORT: String(port) })
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
