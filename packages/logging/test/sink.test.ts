import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { mountDisk, noDisks } from '@fastify-observability/testing/disk'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { createSink, MAX_HELD_BYTES } from '../src/sink.ts'
import { droppedLines, numbersIn, startWriter } from './writer.ts'

const MIB = 2 ** 20
const range = (length: number): number[] => Array.from({ length }, (_, index) => index)

/** A FIFO that is open and that nobody reads. */
function fifo(t: Test): { path: string; fd: number } {
  const path = join(t.testdir(), 'fifo')
  execFileSync('mkfifo', [path])
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  t.teardown(() => closeSync(fd))
  return { path, fd }
}

function readAll(fd: number): string {
  const buffer = Buffer.alloc(MIB)
  return buffer.toString('utf8', 0, readSync(fd, buffer))
}

test('writes every line to a pipe, in order', async (t) => {
  const { output, report } = startWriter({ lines: 20_000, end: 'close' })
  t.same(numbersIn(await output()), range(20_000))
  t.same((await report).dropped, {})
})

test('writes every line to a redirected file, in order', async (t) => {
  const path = join(t.testdir(), 'out.log')
  const { report } = startWriter({ lines: 20_000, end: 'close' }, openSync(path, 'w'))
  t.same((await report).dropped, {})
  t.same(numbersIn(readFileSync(path, 'utf8')), range(20_000))
})

test('writes the lines of several turns of the event loop at once', async (t) => {
  const written: string[] = []
  const sink = createSink({
    async write(chunk) {
      written.push(chunk.buffer.toString('utf8', chunk.sent, chunk.filled))
      chunk.sent = chunk.filled
    },
    writeSync: () => true
  })
  for (const line of ['one\n', 'two\n', 'three\n']) {
    sink.write(line)
    await turn()
  }
  await sink.flush(PATIENCE_MS)
  t.same(written, ['one\ntwo\nthree\n'])
})

for (const end of ['exit', 'throw', 'nothing'] as const) {
  test(`writes what it holds when the process ends by ${end}`, async (t) => {
    const { output, report } = startWriter({ lines: 5000, end })
    t.same(numbersIn(await output()), range(5000))
    t.equal((await report).code, end === 'throw' ? 1 : 0)
  })
}

test('goes on when a slow reader goes on: what it has not dropped arrives whole', async (t) => {
  const { output, written, report } = startWriter({ lines: 100_000, end: 'close' })
  await written
  const numbers = numbersIn(await output())
  const { dropped } = await report
  t.same(Object.keys(dropped), ['buffer_full'])
  t.equal(numbers.length + (dropped.buffer_full ?? 0), 100_000)
  t.same(
    numbers,
    [...new Set(numbers)].sort((one, other) => one - other)
  )
})

test('neither stalls nor grows nor hangs at exit when nobody reads 100 MB', async (t) => {
  const { fd } = fifo(t)
  const { dropped, stallMs, rssGrowth, code } = await startWriter({ lines: 200_000, end: 'exit' }, fd).report
  t.comment(`stall ${stallMs.toFixed(1)} ms, growth ${(rssGrowth / MIB).toFixed(1)} MiB`)
  t.ok(stallMs < STARVED_MS)
  t.ok(rssGrowth < 64 * MIB)
  t.equal(code, 0)
  t.same(Object.keys(dropped), ['buffer_full'])
})

test('does not hang at exit either while the clock of a test stands still', async (t) => {
  const { fd } = fifo(t)
  const { dropped, code } = await startWriter({ lines: 100_000, end: 'exit', frozen: true }, fd).report
  t.equal(code, 0)
  t.same(Object.keys(dropped), ['buffer_full'])
})

test('counts what is left when the deadline of close passes', async (t) => {
  const { fd } = fifo(t)
  const report = await startWriter({ lines: 100_000, end: 'close', closeMs: 100 }, fd).report
  const whole = readAll(fd).split('\n').length - 1
  t.same(Object.keys(report.dropped), ['buffer_full', 'closed'])
  t.equal(whole + droppedLines(report), 100_000)
})

test('leaves a line that was cut alone when it goes on', async (t) => {
  const { fd } = fifo(t)
  const { child, waiting, report } = startWriter({ lines: 200, end: 'close', closeMs: 100, again: 3 }, fd)
  await waiting
  const before = readAll(fd)
  child.stdin?.end('again')
  const { dropped } = await report
  const [cut, ...after] = readAll(fd).split('\n')
  t.same([cut, numbersIn(after.join('\n'))], ['', [200, 201, 202]])
  t.equal(before.split('\n').length - 1 + (dropped.closed ?? 0), 200)
})

test('survives a reader that goes away, and counts', async (t) => {
  const { child, report } = startWriter({ lines: 100_000, end: 'close' })
  child.stdout?.once('data', () => child.stdout?.destroy())
  const { dropped, code } = await report
  t.equal(code, 0)
  t.ok((dropped.write_error ?? 0) > 0)
})

test('goes on when a full disk has room again', { skip: noDisks }, async (t) => {
  const { folder, unmount } = mountDisk()
  t.teardown(unmount)
  writeFileSync(join(folder, 'ballast'), Buffer.alloc(MIB))
  const fd = openSync(join(folder, 'out.log'), 'a')
  t.teardown(() => closeSync(fd))
  const { written, report } = startWriter({ lines: 1000, end: 'close' }, fd)
  await written
  rmSync(join(folder, 'ballast'))
  t.same((await report).dropped, {})
  t.same(numbersIn(readFileSync(join(folder, 'out.log'), 'utf8')), range(1000))
})

test('drops a line longer than what it may hold', async (t) => {
  const taken: number[] = []
  const sink = createSink({
    write: async (chunk) => {
      taken.push(chunk.filled)
      chunk.sent = chunk.filled
    },
    writeSync: () => true
  })
  sink.write('x'.repeat(MAX_HELD_BYTES + 1))
  sink.write('x'.repeat(MAX_HELD_BYTES))
  await sink.flush(PATIENCE_MS)
  t.same([...sink.dropped], [['buffer_full', 1]])
  t.same(taken, [MAX_HELD_BYTES])
})

test('flush and close keep their deadlines when a write hangs', async (t) => {
  const never = new Promise<never>(() => undefined)
  const sink = createSink({ write: () => never, writeSync: () => false, close: () => never })
  sink.write('line\n')
  await sink.flush(10)
  sink.flushSync()
  await sink.close(10)
  sink.write('late\n')
  t.same([...sink.dropped], [['closed', 2]])
})

test('counts the lines that an outlet rejects', async (t) => {
  const sink = createSink({ write: async () => Promise.reject(new Error('EIO')), writeSync: () => false })
  sink.write('a line\n')
  await sink.flush(PATIENCE_MS)
  t.same([...sink.dropped], [['write_error', 1]])
})
