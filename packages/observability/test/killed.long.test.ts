import cluster from 'node:cluster'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'

/** One of several services that share a log file. */
interface Running {
  url: string
  kill(): unknown
  /** Aborted when it has gone. */
  gone: AbortSignal
}

const SCRIPT = join(import.meta.dirname, 'killed-service.ts')
const ENTRIES = 200
const isOfKilled = (entry: string): boolean => entry.startsWith('0-')
cluster.setupPrimary({ exec: SCRIPT, silent: true })

const STARTS = {
  'worker of the cluster is killed': async (env: NodeJS.ProcessEnv): Promise<Running> => {
    const worker = cluster.fork(env)
    worker.process.stdout?.resume()
    const gone = new AbortController()
    worker.once('exit', () => gone.abort())
    const [url] = await once(worker, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
    return { url, kill: () => worker.process.kill('SIGKILL'), gone: gone.signal }
  },
  'worker thread is terminated': async (env: NodeJS.ProcessEnv): Promise<Running> => {
    const worker = new Worker(SCRIPT, { env: { ...process.env, ...env }, stdout: true })
    worker.stdout.resume()
    const gone = new AbortController()
    worker.once('exit', () => gone.abort())
    const [url] = await once(worker, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) })
    return { url, kill: () => worker.terminate(), gone: gone.signal }
  }
}

/** Asks one time after the other until the test is over; what was answered. Workers of a cluster have one port. */
async function ask({ url, gone }: Running, over: AbortSignal): Promise<string[]> {
  const answers: string[] = []
  // A connection that was being handed to a worker that has died stays open, and nobody answers.
  const signal = AbortSignal.any([gone, over])
  while (!signal.aborted) {
    const headers = { connection: 'close' }
    const answered = fetch(url, { headers, signal }).then((response) => response.text())
    const answer = await answered.catch(() => undefined)
    if (answer !== undefined) answers.push(answer)
  }
  return answers
}

/** The entries in the file, and how many lines are none. */
function read(path: string): { entries: string[]; torn: number } {
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
  const parsed = lines.map((line) => {
    try {
      return JSON.parse(line)
    } catch {
      return undefined
    }
  })
  return {
    entries: parsed.flatMap((line) => line?.entry ?? []),
    torn: parsed.filter((line) => line === undefined).length
  }
}

/** Three services under load, of which the first is killed; what they have answered, and what stands in the file. */
async function play(t: Test, begin: (env: NodeJS.ProcessEnv) => Promise<Running>) {
  const path = join(t.testdir(), 'app.log')
  const workers = await Promise.all(
    ['0', '1', '2'].map((name) => begin({ FILE: path, LOG_FORMAT: 'json', WORKER: name }))
  )
  t.teardown(() => Promise.all(workers.map(({ kill }) => kill())))
  const over = new AbortController()
  t.teardown(() => over.abort())
  const asked = workers.map((worker) => ask(worker, over.signal))
  async function written(isThere: (entries: string[]) => boolean): Promise<void> {
    const deadline = AbortSignal.timeout(PATIENCE_MS)
    while (!isThere(read(path).entries)) {
      deadline.throwIfAborted()
      await wait(10)
    }
  }
  await written((entries) => entries.filter(isOfKilled).length >= ENTRIES)
  await workers[0]?.kill()
  await asked[0]
  const before = read(path).entries.length
  await written(({ length }) => length >= before + ENTRIES)
  over.abort()
  const answers = (await Promise.all(asked)).flat()
  const others = answers.filter((entry) => !isOfKilled(entry))
  await written((entries) => others.every((entry) => entries.includes(entry)))
  return { answers, ...read(path) }
}

for (const [how, begin] of Object.entries(STARTS)) {
  test(`tears and loses no line of the others when a ${how} amid writing, and of its own only the last`, async (t) => {
    const { answers, entries, torn } = await play(t, begin)
    const written = new Set(entries)
    t.equal(written.size, entries.length, 'none is written twice')
    const killed = answers.filter(isOfKilled).sort((one, other) => Number(one.slice(2)) - Number(other.slice(2)))
    const lost = killed.filter((entry) => !written.has(entry))
    t.same(lost, killed.slice(killed.length - lost.length))
    t.ok(lost.length < killed.length && torn <= 1, `${lost.length} of ${killed.length} lost, ${torn} torn`)
  })
}
