import { once } from 'node:events'
import { appendFileSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { gunzipSync } from 'node:zlib'
import { PATIENCE_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { openFile } from '../src/file.ts'
import { numbersIn, startWriter } from './writer.ts'

const LINES = 5000
const ROTATING = { maxSize: '256KB', maxTotalSize: '100MB' } as const
const line = (n: number): string => `{"n":${n}}\n`

function open(t: Test, name = 'app.log') {
  const folder = t.testdir()
  const messages: string[] = []
  const sink = openFile({ path: join(folder, name) }, (message) => messages.push(message))
  t.teardown(() => sink.close(1000))
  return { folder, path: sink.destination, sink, messages }
}

/**
 * The numbers of the lines in the folder. Throws where one is torn. Lines on their way to an archive that has gone, when they
 * are looked for, are written again.
 */
function logged(folder: string): number[] {
  const numbers = readdirSync(folder).flatMap((name) => {
    const bytes = readFileSync(join(folder, name))
    return numbersIn((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString())
  })
  return [...new Set(numbers)].sort((one, other) => one - other)
}

const range = (length: number): number[] => Array.from({ length }, (_, index) => index)

test('loses and tears no line of three processes that write to one file and rotate it', async (t) => {
  const folder = t.testdir()
  const file = { path: join(folder, 'app.log'), ...ROTATING }
  const writers = [0, 1, 2].map((n) => startWriter({ file, from: n * LINES, lines: LINES, end: 'close' }))
  for (const { report } of writers) t.same((await report).dropped, {})
  await openFile(file).close(PATIENCE_MS)
  t.ok(readdirSync(folder).length > 3)
  t.same(logged(folder), range(3 * LINES))
})

test('loses and tears no line of three threads that write to one file and rotate it', async (t) => {
  const folder = t.testdir()
  const file = { path: join(folder, 'app.log'), ...ROTATING }
  const threads = [0, 1, 2].map((n) => {
    const task = JSON.stringify({ file, from: n * LINES, lines: LINES, end: 'close' })
    return new Worker(join(import.meta.dirname, 'writing.ts'), { argv: [task], stderr: true })
  })
  await Promise.all(threads.map((thread) => once(thread, 'exit')))
  await openFile(file).close(PATIENCE_MS)
  t.same(logged(folder), range(3 * LINES))
})

test('reports once, with the remedy, that another process writes to the file too', async (t) => {
  const { path, sink, messages } = open(t)
  sink.write(line(0))
  await sink.flush(PATIENCE_MS)
  t.equal(sink.warning?.(), undefined)
  for (const n of [1, 3]) {
    await startWriter({ file: { path }, from: n, lines: 1, end: 'close' }).report
    sink.write(line(n + 1))
    await sink.flush(PATIENCE_MS)
  }
  const expected = `another process or thread writes to ${path} too: put %pid into its name, or log to standard output only`
  t.same([messages, sink.warning?.()], [[expected], expected])
  t.same(numbersIn(readFileSync(path, 'utf8').replace(/"x":"x+"/g, '"x":0')), range(5))
})

test('reports nothing after a predecessor that was killed', async (t) => {
  const { folder, sink, messages } = open(t, 'other.log')
  const path = join(folder, 'app.log')
  const { child, waiting, report } = startWriter({ file: { path }, lines: 10, end: 'close', again: 1 })
  const ended = report.catch(() => undefined)
  await waiting
  child.kill('SIGKILL')
  await ended
  const next = openFile({ path }, (message) => messages.push(message))
  for (const one of [sink, next]) one.write(line(10))
  await Promise.all([sink.close(PATIENCE_MS), next.close(PATIENCE_MS)])
  t.same(messages, [])
})

test('goes on in the new file when another process has rotated it', async (t) => {
  const { path, sink } = open(t)
  sink.write(line(0))
  await sink.flush(PATIENCE_MS)
  renameSync(path, `${path}.moved`)
  writeFileSync(path, line(1))
  sink.write(line(2))
  await sink.flush(PATIENCE_MS)
  t.same(numbersIn(readFileSync(path, 'utf8')), [1, 2])
})

test('begins a line of its own after one that another process, killed amid writing, has left torn', async (t) => {
  const { path, sink, messages } = open(t)
  for (const n of [0, 1]) {
    sink.write(line(n))
    await sink.flush(PATIENCE_MS)
    appendFileSync(path, n === 0 ? line(9) : '{"n":')
  }
  sink.write(line(2))
  await sink.flush(PATIENCE_MS)
  t.equal(readFileSync(path, 'utf8'), `${line(0)}${line(9)}${line(1)}{"n":\n${line(2)}`)
  t.equal(messages.length, 1)
})

test('puts the id of the process in place of %pid', async (t) => {
  const { folder, path, sink } = open(t, 'app-%pid.log')
  sink.write(line(0))
  await sink.close(PATIENCE_MS)
  t.equal(path, join(folder, `app-${process.pid}.log`))
  t.same(readdirSync(folder), [`app-${process.pid}.log`])
})

test('keeps what processes that have ended left under %pid within the bounds, and what others have alone', async (t) => {
  const folder = t.testdir()
  const { child, report } = startWriter({ file: { path: join(folder, 'app-%pid.log') }, lines: 1, end: 'close' })
  await report
  const left = ['app-mine.log', 'app-1', `app-${process.ppid}.log`, `app-${process.ppid}.log.20261001T000000000Z.gz`]
  for (const name of [...left, `app-${child.pid}.log.20261001T000000000Z`]) {
    writeFileSync(join(folder, name), 'x'.repeat(500))
    utimesSync(join(folder, name), 0, 0)
  }
  await openFile({ path: join(folder, 'app-%pid.log'), maxSize: '100B', maxTotalSize: '200B' }).close(PATIENCE_MS)
  t.same(readdirSync(folder), [...left, `app-${process.pid}.log`].sort())
})
