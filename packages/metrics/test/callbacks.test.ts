import Fastify, { type FastifyInstance } from 'fastify'
import { type Test, test } from 'tap'
import metrics from '../src/index.ts'

type Callback = () => unknown

const CALLBACKS: Record<string, (callback: Callback) => Promise<FastifyInstance>> = {
  customLabels: async (callback) => {
    const tenant = callback as () => string
    return service({ customLabels: { tenant } })
  },
  observePool: async (callback) => {
    const app = await service()
    Reflect.apply(app.metrics.observePool, app.metrics, ['main', callback])
    return app
  },
  published: async (callback) => {
    const app = await service()
    const series = { name: 'heat', help: 'H.', type: 'gauge', labelNames: [], collect: callback }
    Reflect.apply(app.observation.publish, app.observation, [series])
    return app
  },
  collect: async (callback) => {
    const app = await service()
    app.metrics.gauge({ name: 'heat', help: 'H.', collect: callback })
    return app
  }
}

const WRONG: Record<string, Callback> = {
  'throws an error': () => {
    throw new Error('no')
  },
  'throws what cannot be printed': () => {
    throw Object.create(null)
  },
  'is async and rejects': async () => Promise.reject(new Error('no')),
  'returns an object without a prototype': () => Object.create(null),
  'returns a symbol': () => Symbol('no')
}

async function service(options = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(metrics, { exclude: ['/metrics'], ...options })
  app.get('/', async () => 'ok')
  return app
}

/** What the callback has left on /metrics after one request. */
async function outcome(t: Test, app: FastifyInstance): Promise<{ errors: number; wrong: string[] }> {
  t.equal((await app.inject('/')).statusCode, 200)
  await app.inject('/metrics')
  const { statusCode, body } = await app.inject('/metrics')
  await app.close()
  t.equal(statusCode, 200)
  t.match(body, /^http_server_request_duration_seconds_count\{.*\} 1$/m)
  const errors = Number(/^observability_observer_errors_total\{.*metrics"\} (\d+)$/m.exec(body)?.[1] ?? 0)
  return { errors, wrong: body.split('\n').filter((line) => /tenant="[^"]|^db_client.* |^heat /.test(line)) }
}

for (const [option, appWith] of Object.entries(CALLBACKS)) {
  for (const [problem, callback] of Object.entries(WRONG)) {
    // A collect function may return anything: nobody looks at it.
    if (option === 'collect' && problem.startsWith('returns')) continue
    test(`counts ${option} that ${problem}, and goes on without it`, async (t) => {
      const { errors, wrong } = await outcome(t, await appWith(callback))
      t.ok(errors > 0)
      t.same(wrong, [])
    })
  }
}

test('refuses callbacks that are no functions where they are given', async (t) => {
  const app = await service()
  const name = '@fastify-observability/metrics'
  t.throws(
    () => Reflect.apply(app.metrics.observePool, app.metrics, ['main', {}]),
    new TypeError(`${name}: observePool: the state of "main" must be a function`)
  )
  t.throws(
    () => Reflect.apply(app.metrics.gauge, app.metrics, [{ name: 'a', help: 'A.', collect: 5 }]),
    new TypeError(`${name}: metric "a" must have a function as collect`)
  )
  await t.rejects(service({ customLabels: { tenant: 'x' } }), /option "customLabels.tenant" must be functions/)
})
