import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { type ChildLoggerOptions, type LoggerOptions, pino } from 'pino'
import { test } from 'tap'
import logging, { createLogger, type LoggingOptions, logger } from '../src/index.ts'

type Line = Record<string, unknown>

/** A logger that takes what JavaScript may pass. */
interface Loose {
  debug(...args: unknown[]): void
  child(bindings: object, options?: ChildLoggerOptions): Loose
}

/** An app that keeps what failed, and what it writes. */
async function keeping(options: LoggingOptions = {}, server: FastifyServerOptions = {}) {
  const lines: Line[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const app = Fastify(server)
  await app.register(logging, { keep: true, stream, ...options })
  return { app, lines, messages: () => lines.splice(0).map(({ msg, held }) => (held ? `held ${msg}` : msg)) }
}

const DAY_MS = 86_400_000

const fails = (): never => {
  throw new Error('boom')
}

function droppedIn(app: FastifyInstance): unknown {
  const series = registryOf(app).published.find(({ name }) => name === 'log_lines_dropped_total')
  return [...(series?.collect() ?? [])]
}

test('writes the lines below the level of a request that failed, in order and before its own line', async (t) => {
  const { app, messages } = await keeping()
  app.get<{ Params: { status: number } }>('/:status', async ({ log, params }, reply) => {
    log.debug('asked')
    await null
    log.info('told')
    logger().trace({ row: 7 }, 'found')
    return reply.code(params.status).send('ok')
  })
  for (const status of [200, 404, 503]) await app.inject(`/${status}`)
  const own = 'request completed'
  t.same(messages(), ['told', own, 'told', own, 'told', 'held asked', 'held found', own])
})

test('gives each line its own time', async (t) => {
  const { app, lines } = await keeping()
  app.get('/', async ({ log }) => {
    log.debug('first')
    await sleep(20)
    log.debug('second')
    await sleep(20)
    return fails()
  })
  await app.inject('/')
  const [first = 0, second = 0, own = 0] = lines.map(({ time }) => Date.parse(String(time)))
  t.ok(second - first >= 15 && own - second >= 15, `${first}, ${second}, ${own}`)
})

test('writes those of a request that was slow, and of no other', async (t) => {
  const declare = (app: FastifyInstance): void => {
    app.get<{ Params: { ms: string } }>('/:ms', async ({ log, params }) => {
      log.debug('waiting')
      await sleep(Number(params.ms))
      return params.ms === '0' ? fails() : 'ok'
    })
  }
  const slow = await keeping({ keep: { errors: false, slowerThanMs: 30 } })
  declare(slow.app)
  await slow.app.inject('/40')
  t.same(slow.messages(), ['held waiting', 'request completed'])

  const { app, messages } = await keeping({ keep: { errors: false, slowerThanMs: DAY_MS } })
  declare(app)
  for (const ms of [40, 1, 0]) await app.inject(`/${ms}`)
  t.same(messages(), ['request completed', 'request completed', 'request completed'])
})

test('takes no stream for a slow request whose duration the metrics leave out', async (t) => {
  const { app, messages } = await keeping({ keep: { slowerThanMs: 0 } })
  const config = { observability: { metrics: { duration: false } } }
  app.get('/', { config }, async ({ log }) => log.debug('streaming'))
  await app.inject('/')
  t.same(messages(), ['request completed'])
})

test('knows an error that the application has reported by fail()', async (t) => {
  const { app, messages } = await keeping()
  app.get('/', async ({ log, observation }) => {
    log.debug('asked')
    observation.fail(new Error('in GraphQL'))
    return { errors: [] }
  })
  await app.inject('/')
  t.same(messages(), ['held asked', 'request completed'])
})

test('takes a response that broke for a failure, and a client that left for none', async (t) => {
  const { app, messages, lines } = await keeping()
  app.get('/:end', async ({ log, observation, params }, reply) => {
    log.debug('begun')
    reply.raw.write('half')
    if (Object(params).end === 'broken') Object(observation).abort(new Error('cut'))
    return reply.hijack()
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const end of ['left', 'broken']) {
    const client = connect(Number(new URL(app.listeningOrigin).port), '127.0.0.1')
    client.write(`GET /${end} HTTP/1.1\r\nhost: x\r\n\r\n`)
    await once(client, 'data')
    client.destroy()
    while (!lines.some(({ path, route }) => path === `/${end}` && route)) await sleep(1)
  }
  await app.close()
  t.same(messages().slice(1), ['request aborted', 'held begun', 'request aborted'])
})

test('has no line of a request that load shedding has answered', async (t) => {
  const { app, messages } = await keeping()
  app.get('/', async ({ log }) => {
    log.debug('shed')
    throw Object.assign(new Error('busy'), { statusCode: 503, code: 'FST_UNDER_PRESSURE' })
  })
  await app.inject('/')
  t.same(messages(), ['request completed'])
})

class Account {
  name = 'Ann'
  password = 'planted'
}

const shared = new Account()
const cyclic: Line = { name: 'loop' }
cyclic.self = cyclic
const SERIALIZERS = { user: (user: Line) => `user ${user.id}`, err: (error: Error) => ({ told: error.message }) }

/** What can be logged, all of it at level debug. */
const CALLS: ((log: Loose) => void)[] = [
  (log) => log.debug('plain'),
  (log) => log.debug({ a: 1, b: 'two', c: true, d: null, e: undefined, f: 10n, g: Number.NaN }, 'scalars'),
  (log) => log.debug({ a: { b: [1, { c: ['x'] }, null] } }, 'nested'),
  (log) => log.debug({ password: 'planted', note: 'token=planted', deep: { api_key: 'planted' } }, 'secrets'),
  (log) => log.debug({ a: 1 }),
  (log) => log.debug({ msg: 'in the fields', a: 1 }),
  (log) => log.debug({}),
  (log) => log.debug({ level: 'forged', time: 1, held: 'forged', request_id: 'forged' }, 'reserved'),
  (log) => log.debug('%s of %d, %j', 'one', 2, { three: 3 }),
  (log) => log.debug({ a: 1 }, '%s', 'filled', 'and more'),
  (log) => log.debug('it failed', new Error('told')),
  (log) => log.debug(new Error('alone')),
  (log) => log.debug({ err: new Error('as a field') }, 'with a message'),
  (log) =>
    log.debug({ at: new Date(0), map: new Map([['k', 1]]), set: new Set([1]), bytes: Buffer.from('x') }, 'kinds'),
  (log) => log.debug({ account: shared, call: () => 1, symbol: Symbol('s') }, 'objects'),
  (log) => log.debug({ cyclic }, 'cyclic'),
  (log) =>
    log.debug(
      {
        get broken(): string {
          return fails()
        }
      },
      'a getter'
    ),
  (log) => log.debug(new Proxy({ a: 1 }, { getPrototypeOf: fails }), 'a proxy'),
  (log) => log.debug({ user: { id: 7, iban: 'DE1' }, iban: 'DE2' }, 'serialized'),
  (log) => log.debug(undefined, 'nothing'),
  (log) => log.debug(Object.create(null, { a: { value: 1, enumerable: true } }), 'no prototype'),
  (log) => log.debug(JSON.parse('{"__proto__":{"a":1},"b":2}'), 'proto'),
  (log) => log.debug({ '': 1, 'a.b': 2, 7: 3 }, 'keys'),
  (log) => log.debug(['a', { b: 1 }], 'a list'),
  (log) => log.child({ module: 'db', token: 'planted' }).debug({ a: 1 }, 'of a child'),
  (log) => log.child({ a: 1 }, { msgPrefix: 'db: ' }).debug('with a prefix'),
  (log) => log.child({}, { serializers: { a: (a: number) => a + 1 } }).debug({ a: 1 }, 'serialized by a child'),
  (log) => log.child({}, { redact: ['b.c'] }).debug({ b: { c: 1 } }, 'redacted by a child')
]

/** What a pino with these settings writes of all calls, in a request that fails. */
async function written(settings: LoggerOptions, options: LoggingOptions): Promise<Line[]> {
  const lines: Line[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line)) }
  const app = Fastify({ logger: { ...settings, stream } })
  await app.register(logging, { redact: ['ssn'], ...options })
  app.get('/', async ({ log }) => {
    for (const call of CALLS) call(Object(log))
    return fails()
  })
  await app.inject('/')
  return lines
    .filter(({ route, level, severity }) => route === undefined && level !== 'warn' && severity !== 'warn')
    .map(({ time: _, held: __, ...line }) => ({
      ...line,
      ...(line.err ? { err: { ...Object(line.err), stack: '' } } : {}),
      ...(line.error ? { error: { ...Object(line.error), stack: '' } } : {})
    }))
}

const SETTINGS: [name: string, settings: LoggerOptions][] = [
  ['no settings', {}],
  ['serializers', { serializers: SERIALIZERS }],
  ['redact', { redact: ['user.iban', 'iban', '*.c'] }],
  ['mixin', { mixin: (fields, level) => ({ mixed: level, given: Object.keys(fields) }) }],
  ['formatters.log', { formatters: { log: (fields) => ({ ...fields, formatted: true }) } }],
  ['formatters.level', { formatters: { level: (label) => ({ severity: label }) } }],
  ['keys', { messageKey: 'message', errorKey: 'error', base: { pod: 'a' } }],
  [
    'hooks',
    {
      hooks: {
        logMethod(args, method) {
          method.apply(this, [{ hooked: args.length }, 'hooked'])
        }
      }
    }
  ],
  ['no timestamp', { timestamp: false }]
]

for (const [name, settings] of SETTINGS) {
  test(`writes a line that was held as one above the level: ${name}`, async (t) => {
    const kept = await written({ ...settings, level: 'info' }, { keep: true })
    const above = await written({ ...settings, level: 'debug' }, {})
    t.ok(kept.length >= CALLS.length)
    t.same(
      kept,
      above.map(({ held: _, ...line }) => line)
    )
    t.notMatch(JSON.stringify(kept), 'planted')
  })
}

test('survives a getter that logs itself', async (t) => {
  const { app, lines } = await keeping()
  app.get('/', async ({ log }) => {
    const order = {
      id: 7,
      get total() {
        log.debug({ a: 1, b: 2, c: 3, d: 4 }, 'adding up')
        return 9
      },
      paid: true
    }
    for (let time = 0; time < 70; time++) log.debug(order, 'order')
    return fails()
  })
  await app.inject('/')
  const orders = lines.filter(({ msg }) => msg === 'order')
  t.equal(orders.length, 64)
  t.match(orders[0], { id: 7, total: 9, paid: true })
  t.same(droppedIn(app), [[{ reason: 'held_full' }, 76]])
})

test('writes values as they were at the call, and bindings as they were', async (t) => {
  const { app, lines } = await keeping()
  app.get('/', async ({ log, server }) => {
    const order = { id: 7, items: [{ price: 1 }] }
    const account = new Account()
    log.debug({ order, total: order.items.length }, 'data')
    log.debug({ account }, 'an object')
    order.items.push({ price: 2 })
    order.id = account.name.length
    account.name = 'Bob'
    Object(log).setBindings({ tenant: 'a' })
    log.debug('bound')
    server.log.debug('by the app')
    return fails()
  })
  await app.inject('/')
  t.match(lines, [
    { order: { id: 7, items: [{ price: 1 }] }, total: 1, tenant: undefined },
    { account: { name: 'Ann', password: '[redacted]' }, tenant: undefined },
    { msg: 'bound', tenant: 'a' },
    { msg: 'by the app', tenant: undefined, request_id: 'req-1', held: true },
    { msg: 'request completed', tenant: 'a', held: undefined }
  ])
  t.equal(Object(lines[0]).order.items.length, 1)
})

test('goes by the level of each logger, and lets a silent one be silent', async (t) => {
  const { app, messages } = await keeping({ levelFor: ({ url }) => (url === '/debug' ? 'debug' : undefined) })
  app.get('/:level', async ({ log }) => {
    log.debug('own')
    log.trace('own trace')
    log.child({}, { level: 'error' }).warn('strict')
    log.child({}, { level: 'trace' }).debug('open')
    log.child({}, { level: 'silent' }).error('silent')
    return fails()
  })
  await app.inject('/info')
  t.same(messages(), ['open', 'held own', 'held own trace', 'held strict', 'request completed'])
  await app.inject('/debug')
  t.same(messages(), ['own', 'open', 'held own trace', 'held strict', 'request completed'])
  app.logging.level = 'trace'
  await app.inject('/info')
  t.same(messages(), ['own', 'own trace', 'open', 'held strict', 'request completed'])
})

test('holds lines of levels of the application’s own', async (t) => {
  const { app, lines } = await keeping({}, { logger: { customLevels: { audit: 25 }, level: 'info' } })
  app.get('/', async ({ log }) => {
    Object(log).audit({ a: 1 }, 'paid')
    return fails()
  })
  await app.inject('/')
  t.match(lines, [{ level: 'audit', msg: 'paid', held: true }, { msg: 'request completed' }])
})

test('writes the own line of a slow request whose level leaves it out', async (t) => {
  const { app, lines } = await keeping({ level: 'error', keep: { slowerThanMs: 0 } })
  app.get('/', async ({ log }) => log.info('seen'))
  await app.inject('/')
  t.match(lines, [
    { msg: 'seen', held: true },
    { level: 'info', msg: 'request completed', held: true, status_code: 200, route: '/' }
  ])
})

test('writes lines of requests that disableRequestLogging or the route gives no line', async (t) => {
  for (const [server, log] of [
    [{ disableRequestLogging: true }, true],
    [{}, false]
  ] as const) {
    const { app, messages } = await keeping({}, server)
    app.get('/', { config: { observability: { log } } }, async ({ log }) => {
      log.debug('asked')
      return fails()
    })
    await app.inject('/')
    t.match(messages(), ['held asked'])
  }
})

test('holds 64 lines and 16 KiB of a request, the latest, and counts what falls out of one that failed', async (t) => {
  const { app, lines } = await keeping()
  app.get<{ Params: { many: string; size: string; end: string } }>('/:many/:size/:end', async ({ log, params }) => {
    for (let line = 0; line < Number(params.many); line++)
      log.debug({ line, text: 'x'.repeat(Number(params.size)) }, 'row')
    return params.end === 'fails' ? fails() : 'ok'
  })
  const held = async (path: string) => {
    await app.inject(path)
    const rows = lines.splice(0).filter((line) => line.held)
    return [rows.length, rows.at(0)?.line, rows.at(-1)?.line]
  }
  t.same(await held('/100/0/succeeds'), [0, undefined, undefined])
  t.same(droppedIn(app), [])
  t.same(await held('/100/0/fails'), [64, 36, 99])
  t.same(droppedIn(app), [[{ reason: 'held_full' }, 36]])
  t.same(await held('/1000/3000/fails'), [5, 995, 999])
  t.same(await held('/3/20000/fails'), [0, undefined, undefined])
  t.same(droppedIn(app), [[{ reason: 'held_full' }, 36 + 995 + 3]])
})

test('holds 8 MiB in all, of the latest requests, however many hang', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const { app, lines } = await keeping()
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  app.get('/', async ({ log }) => {
    for (let line = 0; line < 64; line++)
      log.debug({ line, rows: Array.from({ length: 10 }, (_, id) => ({ id })) }, `${line}`.repeat(40))
    await released
    return fails()
  })
  collect()
  const before = process.memoryUsage().heapUsed
  const asked = Array.from({ length: 2_000 }, () => app.inject('/'))
  await sleep(0)
  await app.inject('/nowhere')
  collect()
  const grownMiB = (process.memoryUsage().heapUsed - before) / 1024 ** 2
  release()
  await Promise.all(asked)
  const held = lines.filter((line) => line.held).length
  t.ok(held > 5_000 && held < 50_000, `${held} lines were held`)
  t.ok(grownMiB < 150, `${grownMiB.toFixed()} MiB`)
  t.same(droppedIn(app), [[{ reason: 'held_full' }, 2_000 * 64 - held]])
})

test('keeps exactly the lines of the failed and the slow among 1,000 requests at once', async (t) => {
  const { app, lines } = await keeping({ keep: { errors: true, slowerThanMs: DAY_MS } })
  registryOf(app).observe({
    name: 'test',
    end({ path }, outcome) {
      if (/^\/\d*17$/.test(path)) outcome.durationMs += DAY_MS
    }
  })
  app.get<{ Params: { id: string } }>('/:id', async ({ log, params: { id } }) => {
    for (let step = 0; step < 10; step++) {
      log.debug({ id, step }, 'looking it up')
      if (step % 3 === 0) await sleep(1)
    }
    return id.endsWith('42') ? fails() : 'ok'
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  await Promise.all(
    Array.from({ length: 1_000 }, (_, id) => fetch(`${app.listeningOrigin}/${id}`).then((answer) => answer.text()))
  )
  await app.close()
  const own = Map.groupBy(
    lines.filter(({ path }) => path),
    ({ path }) => String(path)
  )
  const steps = Array.from({ length: 10 }, (_, step) => step)
  for (const [path, [...all]] of own) {
    const isKept = path.endsWith('42') || path.endsWith('17')
    const expected = [...(isKept ? steps : []), undefined]
    t.same([...all.map(({ step }) => step), all.at(-1)?.msg], [...expected, 'request completed'], path)
  }
  t.equal(own.size, 1_000)
  t.equal(lines.filter((line) => line.held).length, 200)
})

test('holds lines of a logger from createLogger, by its own option or by that of the app', async (t) => {
  for (const [own, given] of [
    [true, {}],
    [undefined, { keep: true }]
  ] as const) {
    const lines: Line[] = []
    const loggerInstance = createLogger({ keep: own, stream: { write: (line) => void lines.push(JSON.parse(line)) } })
    const module = loggerInstance.child({ module: 'db' })
    const app = Fastify({ loggerInstance })
    await app.register(logging, given)
    app.get('/', async () => {
      module.debug('asked')
      return fails()
    })
    module.debug('outside of a request')
    await app.inject('/')
    t.match(lines, [{ module: 'db', msg: 'asked', held: true }, { msg: 'request completed' }])
  }
})

test('hands streams that ask for it what a line says, for lines that were held too', async (t) => {
  const levels: unknown[] = []
  const target = { write: (line: string) => void levels.push([JSON.parse(line).msg, Reflect.get(target, 'lastLevel')]) }
  Reflect.set(target, Symbol.for('pino.metadata'), true)
  const app = Fastify({ loggerInstance: pino({ level: 'info' }, target) })
  await app.register(logging, { keep: true })
  app.get('/', async ({ log }) => {
    log.debug('deferred')
    log.trace({ at: new Date() }, 'made')
    return fails()
  })
  await app.inject('/')
  t.same(levels, [
    ['deferred', 20],
    ['made', 10],
    ['request completed', 50]
  ])
})

test('survives a method that was taken from its logger, and counts held lines once they are written', async (t) => {
  const { app, lines } = await keeping()
  app.get('/:end', async ({ log, params }) => {
    const { debug } = log
    debug('belongs to nobody')
    log.debug('counted')
    log.debug({ at: new Date() }, 'counted')
    return Object(params).end === 'fails' ? fails() : 'ok'
  })
  for (const end of ['succeeds', 'fails']) await app.inject(`/${end}`)
  const series = registryOf(app).published.find(({ name }) => name === 'log_lines_total')
  const counts = Object.fromEntries(
    [...(series?.collect() ?? [])].map(([labels, count]) => [Object.values(labels)[0], count])
  )
  t.same(counts, { info: 1, debug: 2, error: 1 })
  t.equal(lines.length, 4)
})

test('writes no line below the level where nothing is to be kept', async (t) => {
  for (const keep of [false, undefined, { errors: false }]) {
    const { app, messages } = await keeping({ keep })
    app.get('/', async ({ log }) => {
      log.debug('asked')
      return fails()
    })
    await app.inject('/')
    t.same(messages(), ['request completed'])
  }
})

test('refuses a wrong option of keep', async (t) => {
  const NAME = '@fastify-observability/logging'
  await t.rejects(
    keeping({ keep: { slowerThanMs: -1 } }),
    new TypeError(
      `${NAME}: option "keep.slowerThanMs" must be a number of milliseconds from 0 to 86400000, a day, got -1`
    )
  )
  await t.rejects(
    keeping({ keep: Object({ slowerThan: 5 }) }),
    new TypeError(`${NAME}: unknown option "keep.slowerThan": did you mean "slowerThanMs"?, got 5`)
  )
})
