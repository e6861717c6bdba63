import { EventEmitter, once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance } from 'fastify'
import { test } from 'tap'
import { createFieldRules } from '../src/fields.ts'
import observation, { currentObservation, type Observation, type Outcome } from '../src/index.ts'
import { errorName, lossesOf, registryOf } from '../src/internal.ts'
import { JobObservation } from '../src/job.ts'
import { createObservers } from '../src/observers.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc')

interface Seen extends Outcome {
  route: string
}

/** An app whose outcomes can be awaited. */
async function observed(
  declare: (app: FastifyInstance) => void,
  http2 = false
): Promise<[FastifyInstance, () => Promise<Seen>]> {
  // To the types an app over HTTP/2 is another thing.
  const app: FastifyInstance = http2 ? Object(Fastify({ http2 })) : Fastify()
  const outcomes: Seen[] = []
  const arrivals = new EventEmitter()
  await app.register(observation)
  app.observation.observe({
    name: 'test',
    end({ route }, outcome) {
      outcomes.push({ route, ...outcome })
      arrivals.emit('outcome')
    }
  })
  declare(app)
  const next = async (): Promise<Seen> => {
    if (outcomes.length === 0) await once(arrivals, 'outcome')
    return outcomes.shift() ?? next()
  }
  return [app, next]
}

test('observes a request once, however many plugins register the observation', async (t) => {
  const app = Fastify()
  let starts = 0
  await app.register(observation)
  await app.register(observation)
  app.observation.observe({ name: 'test', start: () => void starts++ })
  app.get('/', async () => 'ok')
  await app.inject('/')
  t.equal(starts, 1)
})

test('observes routes declared before its registration has run', async (t) => {
  const app = Fastify()
  app.register(observation)
  app.get('/', async () => currentObservation()?.route ?? 'none')
  t.equal((await app.inject('/')).body, '/')
})

test('measures the whole request on the monotonic clock', async (t) => {
  const [app, next] = await observed((app) => {
    app.get('/', async () => wait(30, 'ok'))
  })
  const startedAt = performance.now()
  await app.inject('/')
  const { durationMs } = await next()
  t.ok(durationMs >= 29 && durationMs <= performance.now() - startedAt, `${durationMs} ms`)
})

for (const http2 of [false, true]) {
  test(`lets go of a request while its connection waits for the next one, over HTTP/${http2 ? 2 : 1}`, async (t) => {
    let kept: WeakRef<object> | undefined
    const [app, next] = await observed((app) => {
      app.get('/', async (request) => {
        kept = new WeakRef(request)
        return 'ok'
      })
    }, http2)
    t.teardown(() => app.close())
    const origin = await app.listen({ port: 0, host: '127.0.0.1' })
    if (http2) {
      const session = connectHttp2(origin)
      t.teardown(() => session.destroy())
      session.request({ ':path': '/' }).resume()
    } else {
      const client = connect(Number(new URL(origin).port), '127.0.0.1')
      t.teardown(() => client.destroy())
      client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    }
    await next()
    // Node keeps the text of the date header for a second, by a timer that keeps the scope in which it was set.
    for (let turns = 0; turns < 500 && kept?.deref(); turns++) {
      await wait(10)
      collectGarbage()
    }
    t.ok(kept && !kept.deref())
  })
}

test('leaves it to the server when a connection that waits is closed', async (t) => {
  const app = Fastify({ keepAliveTimeout: 10 })
  await app.register(observation)
  t.teardown(() => app.close())
  const { port, hostname } = new URL(await app.listen({ port: 0 }))
  const client = connect(Number(port), hostname)
  client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
  client.resume()
  await once(client, 'close')
  t.pass()
})

test('is known in awaits, timers, emitters and after a body that comes in pieces', async (t) => {
  const app = Fastify()
  const bus = new EventEmitter()
  await app.register(observation)
  app.post('/', async () => {
    const seen = [currentObservation()?.requestId]
    bus.once('event', () => seen.push(currentObservation()?.requestId))
    await wait(1)
    seen.push(currentObservation()?.requestId)
    await new Promise((resolve) => setTimeout(() => resolve(bus.emit('event')), 1))
    return new Set(seen).size
  })
  t.teardown(() => app.close())
  const origin = new URL(await app.listen({ port: 0 }))
  const client = connect(Number(origin.port), origin.hostname)
  const head =
    'POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n'
  client.write(`${head}{`)
  await once(app.server, 'connection')
  await wait(5)
  client.write('}')
  const [answer] = await once(client, 'data')
  t.match(String(answer), /\r\n\r\n1$/)
  t.equal(currentObservation(), undefined, 'and is undefined outside a request')
})

test('starts observers in the order of registration and ends them in the reverse order', async (t) => {
  const app = Fastify()
  const calls: string[] = []
  await app.register(observation)
  for (const name of ['a', 'b']) {
    app.observation.observe({
      name,
      start: () => void calls.push(`${name} starts`),
      end: () => void calls.push(`${name} ends`)
    })
  }
  app.get('/', async () => 'ok')
  await app.inject('/')
  t.same(calls, ['a starts', 'b starts', 'b ends', 'a ends'])
})

test('ends those first and last that ask for it, whenever they were registered', async (t) => {
  const app = Fastify()
  await app.register(observation)
  const ended: string[] = []
  const observe = (name: string, ends?: 'first' | 'last') =>
    registryOf(app).observe({ name, end: () => void ended.push(name), ...(ends && { ends }) })
  observe('last', 'last')
  observe('one')
  observe('first', 'first')
  observe('two')
  app.get('/', async () => 'ok')
  await app.inject('/')
  t.same(ended, ['first', 'two', 'one', 'last'])
})

test('an observer that throws harms neither the answer nor the other observers, and is counted', async (t) => {
  const fail = (): never => {
    throw new Error('observer')
  }
  const [app, next] = await observed((app) => {
    app.observation.observe({ name: 'broken', start: fail, run: fail, end: fail })
    const reject = async (): Promise<void> => fail()
    app.observation.observe({ name: 'rejecting', start: reject, end: reject })
    app.observation.observe({ name: 'hanging', start: async () => new Promise(() => undefined) })
    app.observation.observe({ name: 'forgetful', run: () => undefined })
    app.get('/', async () => 'ok')
  })
  t.equal((await app.inject('/')).body, 'ok')
  t.match(await next(), { statusCode: 200 })
  const [errors] = registryOf(app).published
  await wait(0)
  t.same(
    [...(errors?.collect() ?? [])],
    [
      [{ observer: 'broken' }, 3],
      [{ observer: 'rejecting' }, 2]
    ]
  )
})

test('logs what its observers throw at most once a minute', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'error', stream: { write: (line: string) => lines.push(line) } } })
  await app.register(observation)
  const start = (): never => {
    throw new Error('observer')
  }
  app.observation.observe({ name: 'broken', start })
  app.get('/', async () => 'ok')
  for (let request = 0; request < 5; request++) await app.inject('/')
  t.match(
    lines.map((line) => JSON.parse(line)),
    [{ observer: 'broken', err: { message: 'observer' } }]
  )
  t.equal(lines.length, 1)
})

test('counts an observer whose failure the logger cannot log either', async (t) => {
  const write = (): never => {
    throw new Error('ENOSPC')
  }
  const app = Fastify({ logger: { level: 'error', stream: { write } } })
  await app.register(observation)
  app.observation.observe({
    name: 'broken',
    end() {
      throw new Error('observer')
    }
  })
  for (const _ of [1, 2]) t.equal((await app.inject('/')).statusCode, 404)
  t.same([...(registryOf(app).published[0]?.collect() ?? [])], [[{ observer: 'broken' }, 2]])
})

test('runs the rest of the request inside each observer', async (t) => {
  const app = Fastify()
  const calls: string[] = []
  await app.register(observation)
  for (const name of ['a', 'b']) {
    const run = (_observation: Observation, next: () => void): void => {
      calls.push(name)
      next()
    }
    app.observation.observe({ name, run })
  }
  app.get('/', async () => void calls.push('handler'))
  await app.inject('/')
  t.same(calls, ['a', 'b', 'handler'])
})

test("throws on what the application throws inside run, as nobody's failure but its own", async (t) => {
  const observers = createObservers(() => Fastify().log)
  observers.jobs.add({ name: 'test', run: (_job, next) => next() })
  const job = new JobObservation('job', {}, undefined, { rules: createFieldRules() })
  const fail = (): never => {
    throw new Error('own')
  }
  t.throws(() => observers.jobs.run(job, fail), new Error('own'))
  t.same(observers.errors.collect(), [])
})

test('names ten of the jobs that a close has aborted', async (t) => {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => void lines.push(line) } } })
  await app.register(observation)
  const { jobs } = registryOf(app)
  jobs.timeoutMs = 1
  for (let number = 0; number < 12; number++)
    void jobs.observe(`job ${number}`, async () => new Promise(() => undefined))
  await app.close()
  const { jobs_count, jobs: names } = JSON.parse(lines.find((line) => line.includes('jobs were aborted')) ?? '{}')
  t.same([jobs_count, names.length], [12, 10])
})

test('leaves a part that cannot count out of the losses', async (t) => {
  const series = { help: 'Lost.', type: 'counter', labelNames: ['reason'] } as const
  const broken = (): never => {
    throw new Error('no')
  }
  const counted = [[{ reason: 'full' }, 3]] as const
  const published = [
    { ...series, name: 'a_dropped_total', collect: broken },
    { ...series, name: 'b_dropped_total', collect: () => counted }
  ]
  t.same(lossesOf(published), { 'b_dropped_total{full}': 3 })
})

test('gives no name to an error that cannot be read', async (t) => {
  const hidden = Object.defineProperty(new Error(), 'name', {
    get() {
      throw new Error('no')
    }
  })
  t.equal(errorName(hidden), undefined)
})
