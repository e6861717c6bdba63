import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker as Thread } from 'node:worker_threads'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import { clusterMetrics } from '../src/index.ts'

const WORKER = fileURLToPath(new URL('cluster-worker.ts', import.meta.url))
const FILES = /^process_max_fds \d+$/m
cluster.setupPrimary({ exec: WORKER })

async function primary(t: Test): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(clusterMetrics)
  t.teardown(() => app.close())
  return app
}

async function startWorker(t: Test): Promise<{ worker: Worker; url: string }> {
  const worker = cluster.fork()
  t.teardown(() => worker.process.kill('SIGKILL'))
  const [{ port }] = await once(worker, 'listening')
  return { worker, url: `http://127.0.0.1:${port}` }
}

async function value(app: FastifyInstance, series: string): Promise<number> {
  const { body } = await app.inject('/metrics')
  return Number(
    body
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.split(' ')
      .at(-1)
  )
}

/** Scrapes until the series is as wanted: a worker that is late for a scrape counts with its last answer, if it has given one. */
async function reaches(app: FastifyInstance, series: string, wanted: number): Promise<boolean> {
  const deadline = performance.now() + PATIENCE_MS
  while (performance.now() < deadline) if ((await value(app, series)) === wanted) return true
  return false
}

/** A scrape that holds so many members: the gauges of one that is late are missing. */
async function scrapeOf(app: FastifyInstance, members: number): Promise<string> {
  const deadline = performance.now() + PATIENCE_MS
  while (performance.now() < deadline) {
    const { body } = await app.inject('/metrics')
    if (body.includes(`\nmembers ${members}\n`)) return body
  }
  return ''
}

test('counts exactly the requests sent to 4 workers, and no scrape times out under load', async (t) => {
  const app = await primary(t)
  const [first] = await Promise.all([1, 2, 3, 4].map(() => startWorker(t)))
  const url = first?.url ?? ''
  let scraping = true
  let sent = 0
  const client = async (): Promise<void> => {
    while (scraping) {
      await (await fetch(url, { headers: { connection: 'close' } })).text()
      sent++
    }
  }
  const clients = Promise.all([1, 2, 3, 4].map(client))
  let before = 0
  for (let scrape = 0; scrape < 100; scrape++) {
    const answer = await app.inject('/metrics')
    const done = Number(/^done_total (\d+)$/m.exec(answer.body)?.[1] ?? 0)
    if (answer.statusCode !== 200 || !(done >= before))
      t.fail(`scrape ${scrape}: ${answer.statusCode}, ${done} after ${before}`)
    before = done
  }
  scraping = false
  await clients
  t.ok(sent > 100)
  t.ok(await reaches(app, 'done_total', sent))
  const count =
    'http_server_request_duration_seconds_count{http_request_method="GET",http_route="/",http_response_status_code="200",error_type=""}'
  t.ok(await reaches(app, count, sent))
  const target = `service_name="unknown_service:node",service_version="",deployment_environment_name="${process.env.NODE_ENV ?? 'development'}"`
  t.ok(await reaches(app, `target_info{${target}}`, 1))
})

test('keeps the counters of a worker that has gone', async (t) => {
  const app = await primary(t)
  const [{ worker, url }, stays] = [await startWorker(t), await startWorker(t)]
  for (let n = 0; n < 10; n++) await (await fetch(n < 5 ? url : stays.url, { headers: { connection: 'close' } })).text()
  worker.process.kill('SIGTERM')
  await once(worker, 'disconnect')
  t.ok(await reaches(app, 'done_total', 10))
})

test('keeps the counters of a closed app in a worker', async (t) => {
  const app = await primary(t)
  const { url } = await startWorker(t)
  await (await fetch(`${url}/brief`)).text()
  t.ok(await reaches(app, 'done_total', 5))
})

test('counts a worker that does not answer with the values of its last answer', async (t) => {
  const app = await primary(t)
  const { url } = await startWorker(t)
  await (await fetch(url, { headers: { connection: 'close' } })).text()
  t.ok(await reaches(app, 'done_total', 1))
  const hanging = fetch(`${url}/hang`, { signal: AbortSignal.timeout(200) })
  await t.rejects(hanging)
  const startedAt = performance.now()
  t.equal(await value(app, 'done_total'), 1)
  t.ok(performance.now() - startedAt < STARVED_MS)
})

test('adds up worker threads', async (t) => {
  const app = await primary(t)
  const threads = await Promise.all(
    [1, 2].map(async () => {
      const thread = new Thread(WORKER)
      t.teardown(() => thread.terminate())
      const [address] = await once(thread, 'message')
      return { thread, address }
    })
  )
  for (const { address } of threads) for (let n = 0; n < 3; n++) await (await fetch(address)).text()
  t.ok(await reaches(app, 'done_total', 6))
  const [one] = threads
  const own = await (await fetch(`${one?.address}/metrics`)).text()
  t.match(own, FILES)
  t.match(await scrapeOf(app, 2), FILES.exec(own)?.[0], 'which share what is of the process')
  one?.thread.postMessage('leave')
  if (one) await once(one.thread, 'exit')
  t.ok(await reaches(app, 'done_total', 6))
})

test('does not wait for a worker that is stopped', async (t) => {
  const app = await primary(t)
  const { worker, url } = await startWorker(t)
  await (await fetch(url, { headers: { connection: 'close' } })).text()
  t.ok(await reaches(app, 'done_total', 1))
  worker.process.kill('SIGSTOP')
  t.equal(await Promise.race([value(app, 'done_total'), sleep(STARVED_MS, 'late', { ref: false })]), 1)
})
