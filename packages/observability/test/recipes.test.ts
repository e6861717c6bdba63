import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fastifySchedule from '@fastify/schedule'
import { freePorts } from '@fastify-observability/testing/ports'
import { Queue, Worker } from 'bullmq'
import Fastify from 'fastify'
import { type Test, test } from 'tap'
import { AsyncTask, SimpleIntervalJob } from 'toad-scheduler'
import observability, { currentObservation, type JobOrigin, observe } from '../src/index.ts'

const probe: SpawnSyncReturns<Buffer> = spawnSync('redis-server', ['--version'])
const NO_REDIS = probe.status !== 0 && 'Redis is not installed'

async function observed(t: Test) {
  const texts: string[] = []
  const app = Fastify()
  await app.register(observability, { logging: { stream: { write: (line) => void texts.push(line) } } })
  t.teardown(() => app.close())
  const jobLines = () => texts.map((line) => JSON.parse(line)).filter(({ msg }) => msg.startsWith('job '))
  return { app, jobLines }
}

async function startRedis(t: Test): Promise<{ host: string; port: number }> {
  const [port = 0] = await freePorts(1)
  const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', ''])
  t.teardown(() => child.kill())
  for await (const text of child.stdout) if (String(text).includes('Ready to accept connections')) break
  return { host: '127.0.0.1', port }
}

test('BullMQ: each attempt of a job has its own line, on a real Redis', { skip: NO_REDIS }, async (t) => {
  const connection = await startRedis(t)
  const { app, jobLines } = await observed(t)
  const queue = new Queue<{ origin: JobOrigin | undefined }>('orders', { connection })
  const worker = new Worker<{ origin: JobOrigin | undefined }>(
    'orders',
    ({ name, data: { origin }, attemptsMade, opts: { attempts } }) =>
      observe(name, { links: [origin], attempt: attemptsMade + 1, attempts }, async () => {
        if (attemptsMade < 2) throw new Error('not yet')
      }),
    { connection }
  )
  const completed = once(worker, 'completed')
  app.post('/', () => queue.add('import', { origin: currentObservation()?.spanContext }, { attempts: 3 }))
  await app.inject({ method: 'POST', url: '/' })
  await completed
  await Promise.all([worker.close(), queue.close()])
  const said = jobLines().map(({ level, msg, attempt }) => [level, msg, attempt])
  t.same(said, [
    ['warn', 'job failed', 1],
    ['warn', 'job failed', 2],
    ['info', 'job completed', 3]
  ])
})

test('@fastify/schedule: each run of a task is a job', async (t) => {
  const { app, jobLines } = await observed(t)
  const { promise, resolve } = Promise.withResolvers<void>()
  await app.register(fastifySchedule)
  const task = new AsyncTask('tidy', () => observe('tidy', () => undefined).then(resolve))
  await app.ready()
  app.scheduler.addSimpleIntervalJob(new SimpleIntervalJob({ milliseconds: 20 }, task))
  await promise
  t.match(jobLines()[0], { msg: 'job completed', job: 'tidy' })
})
