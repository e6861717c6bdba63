import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify, { type FastifyBaseLogger, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import { type Logger, type LoggerOptions, pino } from 'pino'
import { test } from 'tap'
import logging, { type LoggingOptions } from '../src/index.ts'

type Line = Record<string, unknown>

const service = { name: 'shop', version: '1.2.3', environment: 'test' }
const OURS = new Set(['service', 'version', 'environment', 'request_id', 'method', 'path', 'correlation_id'])

function array() {
  const lines: Line[] = []
  return { lines, stream: { write: (line: string) => void lines.push(JSON.parse(line)) } }
}

/** Fastify with a pino that writes into an array, given in one of two ways. */
function lived(way: 'logger' | 'loggerInstance', options: LoggerOptions, server: FastifyServerOptions = {}) {
  const { lines, stream } = array()
  const loggerInstance: FastifyBaseLogger = pino(options, stream)
  const app = Fastify({ ...server, ...(way === 'logger' ? { logger: { ...options, stream } } : { loggerInstance }) })
  return { app, lines, stream, loggerInstance }
}

/** What an app with these settings writes of one request, from `/`, after the plugin has loaded. */
async function written(options: LoggerOptions, handler: (log: Logger) => void, loggingOptions: LoggingOptions = {}) {
  const { app, lines } = lived('logger', options)
  await app.register(logging, { service, ...loggingOptions })
  app.get('/', async ({ log }) => handler(Object(log)))
  await app.inject('/')
  return lines
}

function levelsIn(file: string): unknown[] {
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).level)
}

function logMethod(this: Logger, args: unknown[], method: (...args: never[]) => void): void {
  Reflect.apply(method, this, [{ hooked: true }, args.at(-1)])
}

const throws = (): never => {
  throw new Error('no')
}

/** A setting, what is logged, and the line that it makes, and what the setting makes of the canonical line. */
const SETTINGS: [name: string, LoggerOptions, (log: Logger) => void, line: Line, canonical: Line][] = [
  ['level', { level: 'debug' }, (log) => log.debug('a'), { level: 'debug', msg: 'a' }, { msg: 'request completed' }],
  [
    'customLevels',
    { customLevels: { audit: 35 } },
    (log) => Reflect.apply(Reflect.get(log, 'audit'), log, ['a']),
    { level: 'audit', msg: 'a' },
    { level: 'info' }
  ],
  [
    'useOnlyCustomLevels',
    { customLevels: { trace: 1, debug: 2, info: 3, warn: 4, error: 5, fatal: 6, audit: 7 }, useOnlyCustomLevels: true },
    (log) => Reflect.apply(Reflect.get(log, 'audit'), log, ['a']),
    { level: 'audit', msg: 'a' },
    { level: 'info' }
  ],
  [
    'redact',
    { redact: ['user.iban', 'client_ip', '*.pin'] },
    (log) => log.info({ user: { iban: 'DE1', name: 'Ann' }, card: { pin: 1 } }, 'a'),
    { user: { iban: '[Redacted]', name: 'Ann' }, card: { pin: '[Redacted]' } },
    { client_ip: '[Redacted]' }
  ],
  [
    'redact with remove',
    { redact: { paths: ['ssn', 'user_agent'], remove: true } },
    (log) => log.info({ ssn: '1' }, 'a'),
    { ssn: undefined },
    { user_agent: undefined }
  ],
  [
    'serializers',
    { serializers: { order: ({ id }) => ({ id }), status_code: String } },
    (log) => log.info({ order: { id: 7, card: '4' } }, 'a'),
    { order: { id: 7, card: undefined } },
    { status_code: '200' }
  ],
  ['mixin', { mixin: () => ({ region: 'eu' }) }, (log) => log.info('a'), { region: 'eu' }, { region: 'eu' }],
  [
    'mixinMergeStrategy',
    { mixin: () => ({ a: 1 }), mixinMergeStrategy: (fields, mixed) => ({ mixed, ...fields }) },
    (log) => log.info({ a: 2 }, 'a'),
    { a: 2, mixed: { a: 1 } },
    { mixed: { a: 1 } }
  ],
  [
    'base',
    { base: { team: 'pay', service: 'theirs' } },
    (log) => log.info('a'),
    { team: 'pay', service: 'theirs' },
    { team: 'pay' }
  ],
  ['name', { name: 'orders' }, (log) => log.info('a'), { name: 'orders', service: 'shop' }, { name: 'orders' }],
  [
    'messageKey',
    { messageKey: 'message' },
    (log) => log.info({ msg: 1 }, 'a'),
    { message: 'a', msg: 1 },
    { message: 'request completed' }
  ],
  ['errorKey', { errorKey: 'error' }, (log) => log.warn(new Error('x')), { error: { message: 'x' }, msg: 'x' }, {}],
  [
    'nestedKey',
    { nestedKey: 'data' },
    (log) => log.info({ a: 1 }, 'a'),
    { data: { a: 1, path: '/' } },
    { data: { route: '/' } }
  ],
  [
    'timestamp',
    { timestamp: () => ',"ts":"now"' },
    (log) => log.info('a'),
    { ts: 'now', time: undefined },
    { ts: 'now' }
  ],
  [
    'timestamp in seconds',
    { timestamp: pino.stdTimeFunctions.unixTime },
    (log) => log.info('a'),
    { time: Number, msg: 'a' },
    { time: Number }
  ],
  [
    'formatters.bindings',
    { formatters: { bindings: ({ pid }) => ({ process: pid }) } },
    (log) => log.info('a'),
    { process: process.pid, pid: undefined },
    { process: process.pid }
  ],
  [
    'formatters.level',
    { formatters: { level: (label, number) => ({ severity: label.toUpperCase(), number }) } },
    (log) => log.warn('a'),
    { severity: 'WARN', number: 40, level: undefined },
    { severity: 'INFO' }
  ],
  [
    'formatters.log',
    { formatters: { log: (fields) => ({ ...fields, keys: Object.keys(fields).length }) } },
    (log) => log.info({ a: 1, b: 2 }, 'a'),
    { a: 1, keys: 2 },
    { route: '/', keys: 8 }
  ],
  [
    'msgPrefix',
    { msgPrefix: '[shop] ' },
    (log) => log.info('a'),
    { msg: '[shop] a' },
    { msg: '[shop] request completed' }
  ],
  ['hooks.logMethod', { hooks: { logMethod } }, (log) => log.info('a'), { hooked: true }, { hooked: true }],
  [
    'hooks.streamWrite',
    { hooks: { streamWrite: (line) => line.replace('{', '{"written":true,') } },
    (log) => log.info('a'),
    { written: true },
    { written: true }
  ],
  [
    'functions that throw',
    { mixin: throws, serializers: { a: throws } },
    (log) => log.info({ a: 1, b: 2 }, 'a'),
    { a: '[unreadable]', b: 2, path: '/' },
    { route: '/' }
  ]
]

for (const [name, options, log, line, canonical] of SETTINGS) {
  test(`keeps ${name} of the pino that is there, in the lines of requests and of the handler`, async (t) => {
    const lines = await written(options, log)
    const [first, last] = [lines.find(({ msg }) => !String(msg).includes('without it')), lines.at(-1)]
    t.match(first, line)
    t.match(last, canonical)
    for (const [fields, expected] of [
      [first, line],
      [last, canonical]
    ] as const) {
      const gone = Object.entries(expected).filter(([, value]) => value === undefined)
      t.notOk(gone.some(([key]) => key in (fields ?? {})))
    }
    const context = Object(first?.data ?? first)
    t.match({ ...first, ...context }, { version: '1.2.3', request_id: 'req-1', method: 'GET', path: '/' })
  })
}

test('puts the canonical line together by hand only where nothing changes it', async (t) => {
  const fields = async (options: LoggerOptions): Promise<Line> => {
    const { duration_ms: _, ttfb_ms: __, time: ___, ...steady } = (await written(options, () => undefined)).at(-1) ?? {}
    return steady
  }
  const plain = await fields({})
  t.same(await fields({ mixin: () => ({}) }), plain)
  t.same(await fields({ redact: ['nothing'] }), plain)
  t.same(await fields({ base: { team: 'pay' } }), { ...plain, team: 'pay' })
})

const RICH: LoggerOptions = {
  level: 'debug',
  customLevels: { audit: 35 },
  base: { team: 'pay', pid: 7 },
  name: 'orders',
  messageKey: 'message',
  errorKey: 'error',
  timestamp: () => ',"ts":"now"',
  mixin: (_fields, level) => ({ region: 'eu', number: level }),
  formatters: { level: (label) => ({ severity: label }), log: (fields) => ({ ...fields, formatted: true }) },
  serializers: { user: ({ id, iban }) => ({ id, iban }), error: ({ message }) => ({ text: message, secret: 's' }) },
  redact: {
    paths: ['tax', 'user.iban', 'list[*].pin', 'deep.a.b', '*.hidden', 'error.secret', 'headers["x-tenant"]', 'note'],
    censor: (_value, path) => `<${path.at(-1)}>`
  }
}

/** Lines with 20 values that the settings above keep secret. */
function talk(log: Logger): void {
  const secret = (index: number): string => `planted-${index}`
  log.info({ tax: secret(1), user: { id: 1, iban: secret(2), other: secret(3) } }, 'one')
  log.debug({ list: [4, 5, 6].map((index) => ({ pin: secret(index), n: index })), a: 1 })
  log.warn(
    { deep: { a: { b: secret(7), c: 1 } }, x: { hidden: secret(8) }, y: { hidden: secret(9) } },
    'two %s',
    'words'
  )
  log.error({ error: Object.assign(new Error('three'), { extra: secret(10) }) })
  log.error(new Error('four', { cause: Object.assign(new Error('five'), { extra: secret(11) }) }))
  log.info({ headers: { 'x-tenant': secret(12), host: 'h' }, note: secret(13) }, 'six')
  log.child({ tax: secret(14), area: 'admin' }).info({ note: secret(15) }, 'seven')
  log
    .child({ user: { id: 2, iban: secret(16), other: secret(17) } })
    .child({ note: secret(18) })
    .info('eight')
  log.info('nine %o and %j', { tax: secret(19), shown: 1 }, { note: secret(20) })
  Reflect.apply(Reflect.get(log, 'audit'), log, [{ a: 1 }, 'ten'])
}

for (const way of ['logger', 'loggerInstance'] as const) {
  test(`writes the lines of a rich set-up as before, with the context, and none of its secrets, by ${way}`, async (t) => {
    const run = async (plugin: boolean): Promise<Line[]> => {
      const { app, lines } = lived(way, RICH)
      if (plugin) await app.register(logging, { service })
      app.get('/', async ({ log }) => talk(Object(log)))
      await app.inject('/')
      talk(Object(app.log))
      return lines
    }
    const [before, after] = [await run(false), await run(true)]
    const own = (lines: Line[]) =>
      lines.filter(({ message }) => !/^(incoming request|request completed)$/.test(String(message)))
    const theirs = own(after).map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => !OURS.has(key))))
    t.same(
      theirs,
      own(before).map(({ reqId: _, ...line }) => line)
    )
    t.equal(own(after).filter(({ request_id, path }) => request_id === 'req-1' && path === '/').length, 10)
    t.match(
      after.filter(({ message }) => message === 'request completed'),
      [{ route: '/', status_code: 200, region: 'eu', team: 'pay' }]
    )
    t.notMatch(JSON.stringify(after), 'planted')
  })

  test(`redacts by its own rules too, by ${way}`, async (t) => {
    const { app, lines } = lived(way, { redact: ['iban'], base: { token: 'planted' } })
    await app.register(logging, { service, redact: ['licence'] })
    app.log.info({ iban: 'planted', licence: 'planted', password: 'planted' }, 'token=planted')
    app.log.child({ apiKey: 'planted' }).info('child')
    t.match(lines[0], { iban: '[Redacted]', licence: '[redacted]', password: '[redacted]', msg: 'token=[redacted]' })
    t.notMatch(JSON.stringify(lines), 'planted')
  })
}

test('keeps what onChild gives to the logger of a request, in routes declared before and after', async (t) => {
  const onChild = (child: Logger): void => void Object.assign(child, { audit: () => child.info('audited') })
  const { app, lines } = lived('logger', { onChild })
  const audit = ({ log }: FastifyRequest): unknown => Reflect.apply(Reflect.get(log, 'audit'), log, [])
  app.get('/before', async (request) => void audit(request))
  await app.register(logging, { service })
  app.get('/after', async (request) => void audit(request))
  for (const url of ['/before', '/after']) t.equal((await app.inject(url)).statusCode, 200)
  t.same(lines.filter(({ msg }) => msg === 'audited').length, 2)
  t.match(lines.at(-2), { path: '/after', request_id: 'req-2' })
})

for (const dedupe of [false, true]) {
  test(`writes each line to ${dedupe ? 'the highest stream' : 'all streams'} of its level, until the app has closed`, async (t) => {
    const folder = t.testdir()
    const [all, errors] = [join(folder, 'all'), join(folder, 'errors')]
    const open = (dest: string) => pino.destination({ dest, sync: false })
    const streams = pino.multistream([{ stream: open(all) }, { level: 'error', stream: open(errors) }], { dedupe })
    const loggerInstance: FastifyBaseLogger = pino({}, streams)
    const app = Fastify({ loggerInstance })
    await app.register(logging, { service })
    app.get('/', async ({ log }) => log.error('in the handler'))
    app.get('/bad', async (_request, reply) => reply.code(500).send())
    for (const url of ['/', '/bad']) await app.inject(url)
    await app.close()
    t.same(levelsIn(errors), ['error', 'error'])
    t.same(levelsIn(all), dedupe ? ['info'] : ['error', 'info', 'error'])
  })
}

test('follows the level of a logger that apps share, until they close, and leaves its own lines as they are', async (t) => {
  const { app, lines, loggerInstance } = lived('loggerInstance', { base: { team: 'pay' } })
  await app.register(logging, { service })
  loggerInstance.level = 'debug'
  app.log.debug('shown')
  loggerInstance.info('theirs')
  t.match(lines, [
    { level: 'debug', service: 'shop', msg: 'shown' },
    { level: 30, team: 'pay', msg: 'theirs' }
  ])
  t.notOk('service' in (lines[1] ?? {}))
  await app.close()
  loggerInstance.level = 'error'
  t.equal(app.log.level, 'debug')
})

test('takes a level of its own at run time, and no other', async (t) => {
  const { app } = lived('logger', { customLevels: { audit: 35 } })
  await app.register(logging)
  app.logging.level = 'audit'
  t.equal(app.log.level, 'audit')
  t.throws(() => Object.assign(app.logging, { level: 'loud' }), /option "level" must be one of fatal/)
})

test('lives with a mixin that is async and rejects', async (t) => {
  const lines = await written({ mixin: async () => throws() }, (log) => log.info('a'))
  t.match(
    lines.filter(({ msg }) => msg === 'a'),
    [{ level: 'info' }]
  )
})
