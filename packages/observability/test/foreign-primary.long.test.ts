import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startCollector } from '@fastify-observability/testing/collector'
import { freePorts } from '@fastify-observability/testing/ports'
import { type Test, test } from 'tap'

const [, RECIPE = ''] =
  /```js\n(\/\/ service\.js\n.*?)```/s.exec(
    readFileSync(new URL('../../../docs/clusters.md', import.meta.url), 'utf8')
  ) ?? []
const PRIMARY = fileURLToPath(new URL('primary.cjs', import.meta.url))
const REQUESTS = 20

interface Cluster {
  primary: ChildProcess
  pids: number[]
  origin: string
  /** The metrics of a process, by its number. */
  metrics(number: number): Promise<string>
  /** Ends it, and resolves with its lines. */
  end(): Promise<Record<string, unknown>[]>
}

/** Runs the recipe of the documentation on ports of its own, below a primary that knows nothing of it. */
async function start(t: Test, edit = (recipe: string) => recipe, env: NodeJS.ProcessEnv = {}): Promise<Cluster> {
  const [port = 0, first = 0] = await freePorts(2)
  const source = edit(RECIPE)
    .replace('8000', String(port))
    .replace('9100', String(first))
    .replace("'fastify'", `'${import.meta.resolve('fastify')}'`)
    .replace("'fastify-observability'", `'${import.meta.resolve('../src/index.ts')}'`)
  const service = join(t.testdir({ 'service.mjs': source }), 'service.mjs')
  const primary = fork(PRIMARY, [service], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc']
  })
  t.teardown(() => primary.kill('SIGKILL'))
  const output = primary.stdout ? text(primary.stdout) : ''
  return {
    primary,
    pids: [await ready(primary), await ready(primary)],
    origin: `http://127.0.0.1:${port}`,
    metrics: async (number) => (await fetch(`http://127.0.0.1:${first + number}/metrics`)).text(),
    async end() {
      primary.send('end')
      return (await output)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    }
  }
}

/** The pid of the next process that says that it is ready. */
async function ready(primary: ChildProcess): Promise<number> {
  const [pid] = await once(primary, 'message')
  return pid
}

async function ask({ origin }: Cluster): Promise<void> {
  for (let request = 0; request < REQUESTS; request++) {
    await (await fetch(`${origin}/orders/7`, { headers: { connection: 'close' } })).text()
  }
}

function countIn(metrics: string): number {
  const counts = metrics.matchAll(
    /^http_server_request_duration_seconds_count\{.*http_route="\/orders\/:id".*\} (\d+)$/gm
  )
  return Array.from(counts, ([, count]) => Number(count)).reduce((sum, count) => sum + count, 0)
}

test('below a primary that is not ours each process has its own metrics, which add up, and every line', async (t) => {
  const cluster = await start(t)
  await ask(cluster)
  const [one, other] = [countIn(await cluster.metrics(0)), countIn(await cluster.metrics(1))]
  t.ok(one > 0 && other > 0)
  t.equal(one + other, REQUESTS)
  const lines = await cluster.end()
  t.equal(lines.filter(({ route }) => route === '/orders/:id').length, REQUESTS)
  t.equal(lines.filter(({ msg }) => msg === 'shutdown finished').length, 2)
})

test('a process that is replaced loses no line, and the next one takes its port over', async (t) => {
  const cluster = await start(t)
  await ask(cluster)
  const next = ready(cluster.primary)
  process.kill(cluster.pids[0] ?? 0, 'SIGINT')
  t.notOk(cluster.pids.includes(await next))
  const counts = [countIn(await cluster.metrics(0)), countIn(await cluster.metrics(1))]
  t.same(counts.filter((count) => count === 0).length, 1)
  await ask(cluster)
  t.equal((await cluster.end()).filter(({ route }) => route === '/orders/:id').length, 2 * REQUESTS)
})

test('processes without a number push their metrics, each as an instance of its own', async (t) => {
  const collector = await startCollector()
  t.teardown(() => collector.close())
  const push = (recipe: string) => recipe.replace(/management: .*,/, 'metrics: { otlp: true },')
  const cluster = await start(t, push, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
  await ask(cluster)
  await cluster.end()
  const points = collector.points.filter(
    ({ name, attributes }) => name === 'http.server.request.duration' && attributes['http.route'] === '/orders/:id'
  )
  const latest = new Map(points.map(({ resource, count }) => [resource['service.instance.id'], count]))
  t.equal(latest.size, 2)
  t.equal(
    [...latest.values()].reduce((sum, count) => sum + count, 0),
    REQUESTS
  )
})
