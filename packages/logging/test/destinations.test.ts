import { EventEmitter, on, once } from 'node:events'
import { createWriteStream, readFileSync, watch } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import Fastify, { type FastifyServerOptions } from 'fastify'
import { pino } from 'pino'
import { test } from 'tap'
import logging, { createLogger, type LoggingOptions } from '../src/index.ts'
import { journalOf } from '../src/logger.ts'

type Line = Record<string, unknown>

function array() {
  const lines: Line[] = []
  return { lines, stream: { write: (line: string) => void lines.push(JSON.parse(line)) } }
}

function linesIn(path: string): Line[] {
  const text = readFileSync(path, 'utf8')
  return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]))
}

const fails = (): never => {
  throw new Error('EPIPE')
}

/** Logs one request and closes the app. */
async function run(logger: FastifyServerOptions['logger'], options: LoggingOptions = {}): Promise<void> {
  const app = Fastify({ logger: Object(logger) })
  await app.register(logging, options)
  app.get('/', async ({ log }) => log.info('here'))
  await app.inject('/')
  await app.close()
}

test('writes to the stream that Fastify was given, and beside it to a file of its own', async (t) => {
  const { lines, stream } = array()
  const path = join(t.testdir(), 'app.log')
  await run({ stream }, { file: path })
  t.match(lines, [{ msg: 'here', path: '/' }, { msg: 'request completed' }])
  t.same(linesIn(path), lines)
})

test('writes to the option "stream" instead, where it is given', async (t) => {
  const [theirs, ours] = [array(), array()]
  await run({ stream: theirs.stream }, { stream: ours.stream })
  t.same([theirs.lines.length, ours.lines.length], [0, 2])
})

test('has every line in a destination, a stream or a file of Fastify’s when the app has closed', async (t) => {
  const folder = t.testdir()
  const at = (name: string): string => join(folder, `${name}.log`)
  const stream = createWriteStream(at('stream'))
  await once(stream, 'open')
  const loggers = {
    destination: { stream: pino.destination({ dest: at('destination'), sync: false, minLength: 4096 }) },
    stream: { stream },
    file: { file: at('file') }
  }
  for (const [name, logger] of Object.entries(loggers)) {
    await run(logger)
    t.match(linesIn(at(name)), [{ msg: 'here', path: '/' }, { msg: 'request completed' }], name)
  }
})

/** Resolves with the lines of a file that a worker writes, as soon as there are two. */
async function twoLines(path: string): Promise<Line[]> {
  const watcher = watch(path)
  while (linesIn(path).length < 2) await once(watcher, 'change')
  watcher.close()
  return linesIn(path)
}

test('hands the lines to a worker of Fastify’s, with the number of the level where it has several targets', async (t) => {
  const [path, both] = [join(t.testdir({ one: '', both: '' }), 'one'), join(t.testdirName, 'both')]
  await run({ transport: { target: 'pino/file', options: { destination: path } } })
  t.match(await twoLines(path), [{ level: 'info', msg: 'here', path: '/' }, { msg: 'request completed' }])
  const target = { target: 'pino/file', options: { destination: both } }
  await run({
    transport: {
      targets: [
        { ...target, level: 'info' },
        { ...target, level: 'fatal' }
      ]
    }
  })
  t.match(await twoLines(both), [
    { level: 30, msg: 'here', path: '/' },
    { level: 30, msg: 'request completed' }
  ])
})

test('lets several streams choose by the level', async (t) => {
  const [all, errors] = [array(), array()]
  await run({ stream: pino.multistream([{ stream: all.stream }, { level: 'error', stream: errors.stream }]) })
  t.same([all.lines.length, errors.lines.length], [2, 0])
  t.match(all.lines[0], { level: 'info', msg: 'here' })
})

test('counts and survives a stream of the application that throws', async (t) => {
  const write = (): never => {
    throw new Error('ENOSPC')
  }
  const app = Fastify({ logger: { stream: { write } } })
  await app.register(logging)
  app.get('/', async ({ log }) => log.fatal('here'))
  t.equal((await app.inject('/')).statusCode, 200)
  await app.close()
})

test('names, in one warning, what records over OTLP miss because of the logger’s own settings', async (t) => {
  const [moved, plain] = [array(), array()]
  const settings = { messageKey: 'message', timestamp: () => ',"ts":"now"', mixin: () => ({ a: 1 }) }
  for (const logger of [
    { ...settings, stream: moved.stream },
    { mixin: settings.mixin, stream: plain.stream }
  ]) {
    const app = Fastify({ logger })
    await app.register(logging, { otlp: true })
    t.teardown(() => app.close())
  }
  t.match(moved.lines, [{ level: 'warn', message: /level, time and message .* own timestamp changes$/ }])
  t.same([moved.lines.length, plain.lines.length], [1, 0])
})

test('counts the lines that the stream of the application throws at, or rejects', async (t) => {
  const answers = [fails, async () => fails()]
  const write = (): unknown => answers.shift()?.()
  const log = createLogger({ stream: Object({ write }) })
  log.info('thrown at')
  log.info('rejected')
  await null
  const [sink] = journalOf(log).sinks
  t.same([...(sink?.dropped ?? [])], [['write_error', 2]])
})

/** Takes each text in its turn, the first at once and others slowly. */
function slowly(texts: string[]) {
  let before: Promise<void> | undefined
  return (text: string, _encoding: unknown, done: () => void): boolean => {
    const taken = before ? before.then(() => sleep(50)) : turn()
    before = taken.then(() => void texts.push(text)).then(done)
    return true
  }
}

test('waits for what stands in the place of a stream’s write, as under PM2, and gives it lines only', async (t) => {
  for (const wrap of [(stream: Writable) => stream, (stream: Writable) => pino.multistream(stream)]) {
    const texts: string[] = []
    const stdout = createWriteStream(join(t.testdir(), 'out.log'))
    Object.assign(stdout, { write: slowly(texts) })
    await run({ stream: wrap(stdout) })
    t.match(texts.map(parse), [{ msg: 'here' }, { msg: 'request completed' }])
    t.equal(texts.length, 2)
    stdout.destroy()
  }
})

test('closes soon although what stands in the place of a stream’s write never calls back', async (t) => {
  const stdout = createWriteStream(join(t.testdir(), 'out.log'))
  const lines: string[] = []
  stdout.write = (line: string) => lines.push(line) > 0
  const app = Fastify({ logger: { stream: stdout } })
  await app.register(logging)
  const late = Promise.withResolvers<string>()
  // Timers fire in the order in which they are due, on a busy machine too.
  app.addHook('onClose', async () => void setTimeout(late.resolve, 1900, 'late').unref())
  app.log.info('here')
  t.equal(await Promise.race([app.close(), late.promise]), undefined)
  t.match(parse(lines[0] ?? ''), { msg: 'here' })
  stdout.destroy()
})

test('counts what a function in the place of a stream’s write throws at or refuses', async (t) => {
  const stdout = createWriteStream(join(t.testdir(), 'out.log'))
  const answers = [fails, (done: (error: Error) => void) => done(new Error('ENOSPC'))]
  stdout.write = (_line: string, ...args: unknown[]) => Boolean(answers.shift()?.(Object(args[1])))
  const log = createLogger({ stream: stdout })
  log.info('thrown at')
  log.info('refused')
  t.same(droppedOf(log), [['write_error', 2]])
  stdout.destroy()
})

test('waits for each line once where a stream’s write was replaced, whatever that does besides', async (t) => {
  const stdout = createWriteStream(join(t.testdir(), 'out.log'))
  t.teardown(() => stdout.destroy())
  const late: (() => void)[] = []
  const answers: ((done: (error?: Error) => void) => unknown)[] = [
    (done) => late.push(done),
    (done) => [done(), done()],
    (done) => [done(new Error('ENOSPC')), fails()],
    fails,
    async () => fails(),
    (done) => late.push(done),
    // The last two of which nothing has come yet, while a flush waits.
    () => [late.pop()?.(), fails()]
  ]
  stdout.write = (_line: string, ...args: unknown[]) => Object(answers.shift()?.(Object(args[1])))
  const log = createLogger({ stream: stdout })
  while (answers.length > 1) log.info('here')
  const deadline = sleep(STARVED_MS, 'the deadline', { ref: false })
  const flushed = journalOf(log).sinks[0]?.flush(PATIENCE_MS)
  late.shift()?.()
  t.equal(await Promise.race([flushed, turn('still waiting')]), 'still waiting')
  log.info('here')
  t.equal(await Promise.race([flushed, deadline]), undefined)
  t.same(droppedOf(log), [['write_error', 4]])
})

test('waits for a slow stream although what stands in the place of its write drops the callback', async (t) => {
  const { texts, stream } = slow()
  const write = stream.write.bind(stream)
  stream.write = (line: string) => write(line)
  await run({ stream })
  t.match(texts.filter(Boolean).map(parse), [{ msg: 'here' }, { msg: 'request completed' }])
})

function parse(line: string): unknown {
  return JSON.parse(line)
}

function droppedOf(log: object): unknown {
  return [...(journalOf(log).sinks[0]?.dropped ?? [])]
}

function slow() {
  const texts: string[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      texts.push(chunk.toString())
      setTimeout(done, 20)
    }
  })
  return { texts, stream }
}

/** Logs one request, has the application end its stream, closes the app and logs once more. */
async function end(stream: object, ending: () => void): Promise<unknown> {
  const app = Fastify({ logger: Object({ stream }) })
  await app.register(logging)
  app.get('/', async ({ log }) => log.info('here'))
  await app.inject('/')
  ending()
  await app.close()
  app.log.info('too late')
  return droppedOf(app.log)
}

/** Ends like a transport of pino's, in which a flush that comes later fails at some moments. */
class SlowEnd extends EventEmitter {
  writable = true
  closed = false
  write(): void {}
  flush(): void {
    this.emit('error', new Error('flushed after its end'))
  }
  end(): void {
    this.writable = false
    setTimeout(() => {
      this.closed = true
      this.emit('close')
    }, 20)
  }
}

test('leaves a stream that the application has ended to finish, and counts what comes later', async (t) => {
  const { texts, stream } = slow()
  t.same(await end(stream, () => stream.end()), [['closed', 1]])
  t.match(texts.map(parse), [{ msg: 'here' }, { msg: 'request completed' }])

  const slowEnd = new SlowEnd()
  t.same(await end(slowEnd, () => slowEnd.end()), [['closed', 1]])
  t.ok(slowEnd.closed)
})

test('leaves a transport and a destination of pino’s to finish, too, with each line once', async (t) => {
  const folder = t.testdir()
  const at = (name: string): string => join(folder, name)
  const transport = pino.transport({ target: 'pino/file', options: { destination: at('transport') } })
  const closed = once(transport, 'close')
  t.same(await end(transport, () => transport.end()), [['closed', 1]])
  await closed
  t.match(linesIn(at('transport')), [{ msg: 'here' }, { msg: 'request completed' }])

  for (const minLength of [0, 4096]) {
    const destination = pino.destination({ dest: at(`${minLength}`), sync: false, minLength })
    t.same(await end(destination, () => destination.end()), [['closed', 1]])
    t.match(linesIn(at(`${minLength}`)), [{ msg: 'here' }, { msg: 'request completed' }])
    t.equal(linesIn(at(`${minLength}`)).length, 2)
  }
})

test('writes to the others where the application has ended one of several streams', async (t) => {
  const [ended, other] = [slow(), slow()]
  const several = pino.multistream([{ stream: ended.stream }, { stream: other.stream }])
  const { streams } = several
  t.same(await end(several, () => ended.stream.end()), [['closed', 1]])
  t.equal(several.streams, streams)
  t.equal(other.stream.writableLength > 0, true)
  await new Promise((done) => other.stream.end(done))
  const lines = other.texts.filter(Boolean).map(parse)
  t.match(lines, [{ msg: 'here' }, { msg: 'request completed' }, { msg: 'too late' }])
})

test('waits for the others where one of several streams has been destroyed', async (t) => {
  const other = slow()
  const destroyed = new Writable({
    write: (_chunk, _encoding, done) => done(),
    destroy: (_error, done) => void setTimeout(done, 1)
  })
  const several = pino.multistream([{ stream: destroyed }, { stream: other.stream }])
  await end(several, () => destroyed.destroy())
  t.match(other.texts.slice(0, 2).map(parse), [{ msg: 'here' }, { msg: 'request completed' }])
})

test('answers while its lines go to a response that has ended, and counts them', async (t) => {
  const receiver = createServer((_request, response) => void response.end())
  const responses = on(receiver, 'request')
  await new Promise<void>((listening) => receiver.listen(0, '127.0.0.1', listening))
  t.teardown(() => receiver.close())
  const { port } = Object(receiver.address())
  await (await fetch(`http://127.0.0.1:${port}`)).text()
  const { value: [, response] = [] } = await responses.next()
  t.same(await end(response, () => undefined), [['closed', 3]])
})

test('leaves no listener on an ended stream, however often it is flushed', async (t) => {
  const { stream } = slow()
  const log = createLogger({ stream })
  log.info('here')
  stream.end()
  const before = stream.listenerCount('error')
  for (let flushes = 0; flushes < 3; flushes++) await journalOf(log).sinks[0]?.flush(PATIENCE_MS)
  t.equal(stream.listenerCount('error'), before)
})
