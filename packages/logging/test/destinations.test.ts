import { EventEmitter, once } from 'node:events'
import { createWriteStream, readFileSync, watch } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
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

test('waits for what stands in the place of a stream’s write, as under PM2', async (t) => {
  const path = join(t.testdir(), 'out.log')
  for (const wrap of [(stream: Writable) => stream, (stream: Writable) => pino.multistream(stream)]) {
    const written: string[] = []
    const behind = new Writable({
      write(chunk: Buffer, _encoding, done) {
        setTimeout(() => {
          written.push(chunk.toString())
          done()
        }, 50)
      }
    })
    const stdout = createWriteStream(path)
    stdout.write = behind.write.bind(behind)
    await run({ stream: wrap(stdout) })
    t.match(JSON.parse(written[1] ?? ''), { msg: 'request completed' })
    stdout.destroy()
  }
})

test('closes soon although what stands in the place of a stream’s write never calls back', async (t) => {
  const stdout = createWriteStream(join(t.testdir(), 'out.log'))
  const lines: string[] = []
  stdout.write = (line: string) => lines.push(line) > 0
  // Timers fire in the order in which they are due, on a busy machine too.
  const late = sleep(1900, 'late', { ref: false })
  t.equal(await Promise.race([run({ stream: stdout }), late]), undefined)
  t.match(JSON.parse(lines[1] ?? ''), { msg: 'request completed' })
  stdout.destroy()
})

/** Logs one request, has the application end its stream, closes the app and logs once more. */
async function end(stream: { end(): void }): Promise<unknown> {
  const app = Fastify({ logger: Object({ stream }) })
  await app.register(logging)
  app.get('/', async ({ log }) => log.info('here'))
  await app.inject('/')
  stream.end()
  await app.close()
  app.log.info('too late')
  return [...(journalOf(app.log).sinks[0]?.dropped ?? [])]
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
  const written: string[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written.push(chunk.toString())
      setTimeout(done, 20)
    }
  })
  t.same(await end(stream), [['closed', 1]])
  t.match(JSON.parse(written[1] ?? ''), { msg: 'request completed' })

  const path = join(t.testdir(), 'app.log')
  t.same(await end(pino.transport({ target: 'pino/file', options: { destination: path } })), [['closed', 1]])
  t.match(linesIn(path), [{ msg: 'here' }, { msg: 'request completed' }])

  const slow = new SlowEnd()
  t.same(await end(slow), [['closed', 1]])
  t.ok(slow.closed)
})
