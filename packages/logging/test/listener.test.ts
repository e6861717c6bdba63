import observation from '@fastify-observability/observation'
import { type LogLine, registryOf } from '@fastify-observability/observation/internal'
import Fastify, { type FastifyServerOptions } from 'fastify'
import { pino } from 'pino'
import { test } from 'tap'
import logging, { createLogger, type LoggingOptions } from '../src/index.ts'

/** What a listener receives, and what is written. */
async function listen(
  server: (stream: { write(line: string): void }) => FastifyServerOptions,
  options: LoggingOptions,
  isWanted = true
) {
  const written: { msg: string }[] = []
  const received: LogLine[] = []
  const stream = { write: (line: string) => void written.push(JSON.parse(line)) }
  const app = Fastify(server(stream))
  await app.register(observation)
  registryOf(app).lineListener = { wants: () => isWanted, line: (_observation, line) => void received.push(line) }
  await app.register(logging, options.level ? { ...options, stream } : options)
  return { app, written, received }
}

for (const [kind, server, options] of [
  ['a logger of its own', () => ({}), { level: 'info' }],
  ['the pino of the application', (stream) => ({ loggerInstance: pino({ level: 'info' }, stream) }), {}],
  ['a logger from createLogger', (stream) => ({ loggerInstance: createLogger({ level: 'info', stream }) }), {}]
] as [string, Parameters<typeof listen>[0], LoggingOptions][]) {
  test(`with ${kind}, a listener receives the lines below the level too, and they go nowhere else`, async (t) => {
    const { app, written, received } = await listen(server, options)
    t.equal(app.log.level, 'info')
    app.log.debug({ token: 'abc', step: 1 }, 'below')
    app.log.info('written')
    app.log.child({}, { level: 'debug' }).debug('of a child')
    t.same(
      written.map(({ msg }) => msg),
      ['written', 'of a child']
    )
    t.match(received, [
      { level: 'debug', message: 'below', fields: { token: '[redacted]', step: 1 }, isWritten: false },
      { level: 'info', message: 'written', isWritten: true },
      { level: 'debug', message: 'of a child', isWritten: true }
    ])
  })
}

test('two apps of one logger both listen, and still nothing below the level is written', async (t) => {
  const written: string[] = []
  const logger = createLogger({ level: 'info', stream: { write: (line) => void written.push(line) } })
  for (const _app of [1, 2]) await listen(() => ({ loggerInstance: logger }), {})
  logger.debug('below')
  t.same(written, [])
})

for (const [kind, server, options] of [
  ['a logger of its own', () => ({}), { level: 'info' }],
  ['the pino of the application', (stream) => ({ loggerInstance: pino({ level: 'info' }, stream) }), {}]
] as [string, Parameters<typeof listen>[0], LoggingOptions][]) {
  test(`with ${kind}, nothing is read of a line below the level that no listener wants`, async (t) => {
    const { app, written, received } = await listen(server, options, false)
    let reads = 0
    const fields = { toJSON: () => reads++ }
    app.log.debug({ fields }, 'below')
    t.equal(reads, 0)
    app.log.info({ fields }, 'written')
    t.match(written, [{ msg: 'written' }])
    t.same(received, [])
  })
}

test('a level that is set later decides what is written from then on', async (t) => {
  const { app, written, received } = await listen(() => ({}), { level: 'info' })
  app.logging.level = 'error'
  app.log.warn('too low')
  app.logging.level = 'debug'
  app.log.debug('high enough')
  t.same(
    written.map(({ msg }) => msg),
    ['high enough']
  )
  t.same(
    received.map(({ isWritten }) => isWritten),
    [false, true]
  )
})

test('a listener receives the canonical line, written or not', async (t) => {
  const { app, written, received } = await listen(() => ({}), { level: 'warn' })
  app.get('/', async () => 'ok')
  await app.inject('/')
  await app.inject('/nothing')
  t.match(received, [
    { level: 'info', message: 'request completed', isWritten: false },
    { level: 'warn', message: 'request completed', isWritten: true }
  ])
  t.equal(written.length, 1)
})

test('names what it keeps of the pino of the application', async (t) => {
  const settings = { level: 'debug', messageKey: 'message', serializers: { user: () => 'me' }, mixin: () => ({}) }
  const { app } = await listen((stream) => ({ loggerInstance: pino(settings, stream) }), {})
  t.same(registryOf(app).descriptions.kept, [
    'logger: level "debug"',
    'logger: stream or transport',
    'logger: mixin',
    'logger: messageKey "message"',
    'logger: serializers.user'
  ])
})

for (const [kind, server, options] of [
  ['a logger of its own', () => ({}), { level: 'info', keep: true }],
  ['the pino of the application', (stream) => ({ loggerInstance: pino({ level: 'info' }, stream) }), { keep: true }],
  [
    'a logger from createLogger',
    (stream) => ({ loggerInstance: createLogger({ level: 'info', stream, keep: true }) }),
    {}
  ]
] as [string, Parameters<typeof listen>[0], LoggingOptions][]) {
  test(`with ${kind} and keep, a line below the level is reported once, and held`, async (t) => {
    const { app, written, received } = await listen(server, options)
    app.get<{ Params: { status: number } }>('/:status', async ({ log, params }, reply) => {
      log.debug({ token: 'abc' }, 'below %s', 'it')
      log.child({ step: 1 }).trace('of a child')
      return reply.code(params.status).send()
    })
    for (const status of [204, 500]) await app.inject(`/${status}`)
    t.same(
      written.map(({ msg }) => msg),
      ['request completed', 'below it', 'of a child', 'request completed']
    )
    const below = [
      { level: 'debug', message: 'below it', fields: { token: '[redacted]' }, isWritten: false },
      { level: 'trace', message: 'of a child', isWritten: false }
    ]
    t.match(received, [...below, { isWritten: true }, ...below, { isWritten: true }])
  })
}

test('keep begins to hold before or after another app listens, and the canonical line is written by it', async (t) => {
  for (const isFirst of [true, false]) {
    const written: { msg: string; held?: boolean }[] = []
    const loggerInstance = createLogger({
      level: 'fatal',
      stream: { write: (line) => void written.push(JSON.parse(line)) }
    })
    if (isFirst) await listen(() => ({ loggerInstance }), {})
    const app = Fastify({ loggerInstance })
    await app.register(logging, { keep: true })
    if (!isFirst) await listen(() => ({ loggerInstance }), {})
    app.get('/', async ({ log }, reply) => {
      log.debug('below')
      return reply.code(500).send()
    })
    await app.inject('/')
    t.match(written, [
      { msg: 'below', held: true },
      { msg: 'request completed', held: true }
    ])
  }
})
