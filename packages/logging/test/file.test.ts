import { once } from 'node:events'
import fs, {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  watch,
  writeFileSync
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { basename, join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { gunzipSync, gzipSync } from 'node:zlib'
import { descriptorsOf } from '@fastify-observability/testing/descriptors'
import { mountDisk, noDisks } from '@fastify-observability/testing/disk'
import { PATIENCE_MS, STARVED_MS } from '@fastify-observability/testing/starvation'
import { type Test, test } from 'tap'
import { bytesOf, type FileOptions, openFile } from '../src/file.ts'
import type { Sink } from '../src/sink.ts'
import { numbersIn, startWriter } from './writer.ts'

const KIB = 1024
const DAY_MS = 86_400_000
const ARCHIVE = /^app\.log\.\d{8}T\d{9}Z(-\d+)?$/
const range = (length: number, from = 0): number[] => Array.from({ length }, (_, index) => from + index)
const line = (n: number): string => `{"n":${n},"x":"${'x'.repeat(480)}"}\n`

function write(sink: Sink, numbers: number[]): void {
  for (const n of numbers) sink.write(line(n))
}

/** Gives the sink lines, and the process time to do other things. */
async function load(sink: Sink, lines: number): Promise<void> {
  for (let n = 0; n < lines; n++) {
    sink.write(line(n))
    if (n % 200 === 0) await turn()
  }
}

function dropped(sink: Sink): number {
  return [...sink.dropped.values()].reduce((sum, lines) => sum + lines, 0)
}

/** What the archives and the file hold. A rotation that the deadline has not waited for may still rename one. */
function logged(folder: string): number[] {
  for (;;) {
    try {
      return read(folder)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
  }
}

function read(folder: string): number[] {
  const names = readdirSync(folder).filter((name) => name.startsWith('app.log'))
  return names.flatMap((name) => {
    const bytes = readFileSync(join(folder, name))
    return numbersIn((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString())
  })
}

function bytesIn(folder: string): number {
  const sizes = readdirSync(folder).map((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0)
  return sizes.reduce((sum, size) => sum + size, 0)
}

const sorted = (numbers: number[]): number[] => numbers.toSorted((one, other) => one - other)

/** Resolves when the names in the folder are as wanted. */
async function until(folder: string, wanted: (names: string[]) => boolean): Promise<void> {
  const watcher = watch(folder)
  while (!wanted(readdirSync(folder))) await once(watcher, 'change')
  watcher.close()
}

function open(t: Test, options: Partial<FileOptions> = {}, onState?: (message: string) => void) {
  const folder = t.testdir()
  const path = join(folder, 'app.log')
  const sink = openFile({ path, ...options }, onState)
  t.teardown(() => sink.close(1000))
  return { folder, path, sink }
}

test('appends whole lines in order to a file that only its owner writes and its group reads', async (t) => {
  const { path, sink } = open(t)
  write(sink, range(3))
  await sink.flush(PATIENCE_MS)
  write(sink, [3])
  await sink.close(PATIENCE_MS)
  t.equal(readFileSync(path, 'utf8'), range(4).map(line).join(''))
  t.equal(statSync(path).mode & 0o777, 0o640)
})

test('leaves the last line alone that a crash has torn, and adds nothing after one that is whole', async (t) => {
  for (const [before, expected] of [
    ['{"n":0}\n{"n":', `{"n":0}\n{"n":\n${line(1)}`],
    ['{"n":0}\n', `{"n":0}\n${line(1)}`],
    ['', line(1)]
  ] as const) {
    const path = join(t.testdir({ 'app.log': before }), 'app.log')
    const sink = openFile({ path })
    write(sink, [1])
    await sink.close(PATIENCE_MS)
    t.equal(readFileSync(path, 'utf8'), expected)
  }
})

test('creates the folder', async (t) => {
  const path = join(t.testdir(), 'deep', 'down', 'app.log')
  const sink = openFile({ path })
  write(sink, [1])
  await sink.close(PATIENCE_MS)
  t.same(numbersIn(readFileSync(path, 'utf8')), [1])
})

test('rotates by size into gzip archives of the same mode, and loses nothing', async (t) => {
  const { folder, sink } = open(t, { maxSize: '100KB', maxTotalSize: '10MB' })
  write(sink, range(1000))
  await sink.flush(PATIENCE_MS)
  await until(folder, (names) => names.every((name) => name === 'app.log' || name.endsWith('.gz')))
  const archives = readdirSync(folder).filter((name) => name.endsWith('.gz'))
  t.equal(archives.length, 4)
  for (const name of archives) t.equal(statSync(join(folder, name)).mode & 0o777, 0o640)
  t.same(sorted(logged(folder)), range(1000))
})

test('leaves archives as they are with compress: false, each longer than maxSize by less than a line', async (t) => {
  const { folder, sink } = open(t, { maxSize: '100KB', maxTotalSize: '10MB', compress: false })
  write(sink, range(1000))
  await sink.close(PATIENCE_MS)
  const archives = readdirSync(folder).filter((name) => ARCHIVE.test(name))
  t.equal(archives.length, 4)
  for (const name of archives) t.ok(statSync(join(folder, name)).size < 100 * KIB + 500)
  t.same(sorted(logged(folder)), range(1000))
})

test('loses no line under load and across five restarts, and each archive is whole', async (t) => {
  const folder = t.testdir()
  const file: FileOptions = { path: join(folder, 'app.log'), maxSize: '256KB', maxTotalSize: '100MB' }
  for (const from of [0, 5_000, 10_000, 15_000, 20_000]) {
    const { code, stallMs, ...report } = await startWriter({ file, from, lines: 5_000, end: 'close' }).report
    t.comment(`stall ${stallMs.toFixed(1)} ms, ${readdirSync(folder).length} files`)
    t.same([report.dropped, code], [{}, 0])
  }
  t.same(sorted(logged(folder)), range(25_000))
})

test('never takes more than maxTotalSize and a file, across five restarts', async (t) => {
  const folder = t.testdir()
  const file: FileOptions = { path: join(folder, 'app.log'), maxSize: '100KB', maxTotalSize: '500KB', compress: false }
  let most = 0
  for (let run = 0; run < 5; run++) {
    const { report } = startWriter({ file, lines: 5000, end: 'close' })
    let running = true
    report.finally(() => {
      running = false
    })
    while (running) {
      most = Math.max(most, bytesIn(folder))
      await turn()
    }
    t.same((await report).dropped, {})
  }
  t.comment(`${Math.round(most / KIB)} KiB at most`)
  t.ok(most > 300 * KIB && most <= 600 * KIB)
})

test('deletes archives of earlier runs that are too old, and finishes what a crash left', async (t) => {
  const folder = t.testdir()
  const archive = (stamp: string, text: string | Buffer, days: number): void => {
    const path = join(folder, `app.log.${stamp}`)
    writeFileSync(path, text)
    utimesSync(path, new Date(), new Date(Date.now() - days * DAY_MS))
  }
  archive('20261001T000000000Z.gz', gzipSync(line(1)), 31)
  archive('20261002T000000000Z.gz', gzipSync(line(2)), 29)
  archive('20261003T000000000Z', line(3), 28)
  archive('20261004T000000000Z', line(4), 27)
  archive('20261004T000000000Z.gz', gzipSync(line(4)), 27)
  archive('20261005T000000000Z.gz.tmp', 'half', 26)
  archive('mine', 'kept', 99)
  await openFile({ path: join(folder, 'app.log') }).close(PATIENCE_MS)
  t.same(readdirSync(folder), [
    'app.log',
    'app.log.20261002T000000000Z.gz',
    'app.log.20261003T000000000Z.gz',
    'app.log.20261004T000000000Z.gz',
    'app.log.mine'
  ])
})

/** Puts calls of the file system's in the place of its own. */
function replace(t: Test, calls: Partial<Record<'open' | 'rename' | 'rm', unknown>>): void {
  const { open, rename, rm } = fs.promises
  Object.assign(fs.promises, calls)
  syncBuiltinESMExports()
  t.teardown(() => {
    Object.assign(fs.promises, { open, rename, rm })
    syncBuiltinESMExports()
  })
}

/** Has a call fail for files of these names. */
function refuse(t: Test, call: 'open' | 'rm', names: string[]): void {
  const { [call]: real } = fs.promises
  async function refusing(path: string, ...rest: unknown[]): Promise<unknown> {
    if (names.some((name) => path.endsWith(name))) throw Object.assign(new Error('EPERM'), { code: 'EPERM' })
    return Reflect.apply(real, fs.promises, [path, ...rest])
  }
  replace(t, { [call]: refusing })
}

test('compresses what it can beside an empty archive, which a crash amid a rotation leaves, and one that cannot be read', async (t) => {
  const folder = t.testdir()
  const names = [1, 2, 3].map((day) => `app.log.2026100${day}T000000000Z`)
  const [unreadable = '', empty = '', whole = ''] = names
  names.forEach((name, day) => {
    writeFileSync(join(folder, name), name === empty ? '' : line(day))
    // The empty one stays young on a machine that is busy for long.
    const time = new Date(Date.now() + (name === empty ? DAY_MS : day * 1000))
    utimesSync(join(folder, name), time, time)
  })
  refuse(t, 'open', [unreadable])
  await openFile({ path: join(folder, 'app.log') }).close(PATIENCE_MS)
  t.same(readdirSync(folder), ['app.log', unreadable, empty, `${whole}.gz`])
  if (process.platform !== 'linux') return
  const left = [...descriptorsOf('self').values()].filter((path) => path.startsWith(folder))
  t.same(left, [])
})

test('deletes and compresses what it can beside archives that cannot be deleted', async (t) => {
  const folder = t.testdir()
  const name = (day: number, end = ''): string => `app.log.2026100${day}T000000000Z${end}`
  const place = (file: string, text: string | Buffer, days: number): void => {
    const time = new Date(Date.now() - days * DAY_MS)
    writeFileSync(join(folder, file), text)
    utimesSync(join(folder, file), time, time)
  }
  place(name(1, '.gz'), gzipSync(line(1)), 33)
  place(name(2, '.gz'), gzipSync(line(2)), 32)
  // As it is after the last step of its compression was refused.
  place(name(3), line(3), 3)
  place(name(3, '.gz'), gzipSync(line(3)), 3)
  place(name(4), line(4), 2)
  refuse(t, 'rm', [name(2, '.gz'), name(3)])
  await openFile({ path: join(folder, 'app.log') }).close(PATIENCE_MS)
  t.same(readdirSync(folder), ['app.log', name(2, '.gz'), name(3), name(3, '.gz'), name(4, '.gz')])
})

for (const step of ['open', 'rename', 'rm'] as const) {
  test(`keeps what another process writes to an archive amid its compression, at ${step}`, async (t) => {
    const folder = t.testdir()
    const archive = join(folder, 'app.log.20261001T000000000Z')
    writeFileSync(archive, line(1))
    const { [step]: real } = fs.promises
    let isWritten = false
    async function meanwhile(path: string, ...rest: unknown[]): Promise<unknown> {
      if (path.startsWith(archive) && !isWritten) appendFileSync(archive, line(2))
      isWritten ||= path.startsWith(archive)
      return Reflect.apply(real, fs.promises, [path, ...rest])
    }
    replace(t, { [step]: meanwhile })
    await openFile({ path: join(folder, 'app.log') }).close(PATIENCE_MS)
    t.same(sorted(logged(folder)), [1, 2])
    // Found before the last steps, it is not taken apart.
    t.equal(readdirSync(folder).includes(basename(archive)), step === 'open')
    await openFile({ path: join(folder, 'app.log') }).close(PATIENCE_MS)
    t.same(sorted(logged(folder)), [1, 2])
    t.ok(readdirSync(folder).every((name) => name === 'app.log' || name.endsWith('.gz')))
  })
}

test('compresses an archive again that another process has written to before a crash', async (t) => {
  const folder = t.testdir()
  const archive = join(folder, 'app.log.20261001T000000000Z')
  const time = new Date(Date.now() - DAY_MS)
  writeFileSync(`${archive}.gz`, gzipSync(line(1)))
  utimesSync(`${archive}.gz`, time, time)
  writeFileSync(archive, line(1) + line(2))
  await openFile({ path: join(folder, 'app.log') }).close(PATIENCE_MS)
  t.same(readdirSync(folder), ['app.log', `${basename(archive)}.gz`])
  t.same(logged(folder), [1, 2])
})

test('deletes the oldest archives of earlier runs first when the total is too much', async (t) => {
  const folder = t.testdir()
  for (const day of [1, 2, 3]) {
    const path = join(folder, `app.log.2026100${day}T000000000Z.gz`)
    writeFileSync(path, Buffer.alloc(100))
    utimesSync(path, new Date(), new Date(Date.now() - (9 - day) * DAY_MS))
  }
  await openFile({ path: join(folder, 'app.log'), maxSize: '100B', maxTotalSize: '300B' }).close(PATIENCE_MS)
  t.same(readdirSync(folder), ['app.log', 'app.log.20261002T000000000Z.gz', 'app.log.20261003T000000000Z.gz'])
})

test('begins a day with a new file', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'app.log')
  writeFileSync(path, line(1))
  utimesSync(path, new Date(), new Date(Date.now() - DAY_MS))
  const sink = openFile({ path })
  write(sink, [2])
  await sink.close(PATIENCE_MS)
  t.same(numbersIn(readFileSync(path, 'utf8')), [2])
  t.same(sorted(logged(folder)), [1, 2])
})

test('rotates at midnight UTC', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'app.log')
  const { child, waiting, report } = startWriter({
    file: { path },
    lines: 3,
    midnightInMs: 10_000,
    end: 'close',
    again: 2
  })
  await waiting
  await until(folder, (names) => names.length > 1 && names.includes('app.log'))
  child.stdin?.end('again')
  t.same((await report).dropped, {})
  t.same(numbersIn(readFileSync(path, 'utf8')), [3, 4])
  t.same(sorted(logged(folder)), range(5))
})

test('opens the file anew on SIGHUP, and no longer listens when closed', async (t) => {
  const { folder, path, sink } = open(t)
  const listeners = process.listenerCount('SIGHUP')
  write(sink, [1])
  await sink.flush(PATIENCE_MS)
  renameSync(path, `${path}.moved`)
  write(sink, [2])
  await sink.flush(PATIENCE_MS)
  process.kill(process.pid, 'SIGHUP')
  await until(folder, (names) => names.includes('app.log'))
  write(sink, [3])
  await sink.close(PATIENCE_MS)
  t.same(numbersIn(readFileSync(`${path}.moved`, 'utf8')), [1, 2])
  t.same(numbersIn(readFileSync(path, 'utf8')), [3])
  t.equal(process.listenerCount('SIGHUP'), listeners - 1)
})

test('listens to SIGHUP once for all files, as long as one is open', async (t) => {
  const before = process.listenerCount('SIGHUP')
  const folder = t.testdir()
  const names = range(12).map((n) => `${n}.log`)
  const sinks = names.map((name) => openFile({ path: join(folder, name) }))
  for (const sink of sinks) write(sink, [1])
  await Promise.all(sinks.map((sink) => sink.flush(PATIENCE_MS)))
  t.equal(process.listenerCount('SIGHUP'), before + 1)
  for (const name of names) rmSync(join(folder, name))
  process.kill(process.pid, 'SIGHUP')
  await until(folder, (found) => names.every((name) => found.includes(name)))
  for (const sink of sinks) {
    t.equal(process.listenerCount('SIGHUP'), before + 1)
    await sink.close(PATIENCE_MS)
  }
  t.equal(process.listenerCount('SIGHUP'), before)
})

test('creates a deleted file again with the next line', async (t) => {
  const { folder, path, sink } = open(t)
  write(sink, [1])
  await sink.flush(PATIENCE_MS)
  rmSync(folder, { recursive: true })
  write(sink, [2, 3])
  await sink.flush(PATIENCE_MS)
  t.same(numbersIn(readFileSync(path, 'utf8')), [2, 3])
})

test('shares a file that is opened twice, until both have closed', async (t) => {
  const { path, sink } = open(t)
  const other = openFile({ path })
  write(sink, [1])
  write(other, [2])
  await sink.close(PATIENCE_MS)
  write(other, [3])
  await other.close(PATIENCE_MS)
  write(other, [4])
  t.same(numbersIn(readFileSync(path, 'utf8')), [1, 2, 3])
  t.same([...other.dropped], [['closed', 1]])
})

test('rotates a file that flushSync has filled', async (t) => {
  const { folder, path, sink } = open(t, { maxSize: '10KB', maxTotalSize: '1MB' })
  write(sink, [0])
  await sink.flush(PATIENCE_MS)
  write(sink, range(100, 1))
  sink.flushSync()
  t.ok(statSync(path).size > 10 * KIB)
  write(sink, [101])
  await sink.close(PATIENCE_MS)
  t.same(numbersIn(readFileSync(path, 'utf8')), [101])
  t.same(sorted(logged(folder)), range(102))
})

test('goes on in a file that somebody has emptied', async (t) => {
  const { path, sink } = open(t)
  write(sink, range(10))
  await sink.flush(PATIENCE_MS)
  truncateSync(path)
  write(sink, [10])
  await sink.flush(PATIENCE_MS)
  write(sink, [11])
  await sink.close(PATIENCE_MS)
  t.same(numbersIn(readFileSync(path, 'utf8')), [10, 11])
})

test('holds lines while the folder is a file, reports it, and writes them when it is a folder again', async (t) => {
  const messages: string[] = []
  const { folder, path, sink } = open(t, {}, (message) => messages.push(message))
  rmSync(folder, { recursive: true })
  writeFileSync(folder, 'not a folder')
  write(sink, [1])
  while (messages.length === 0) await turn()
  rmSync(folder)
  mkdirSync(folder)
  const since = performance.now()
  await sink.flush(PATIENCE_MS)
  t.comment(`after ${Math.round(performance.now() - since)} ms`)
  t.same(numbersIn(readFileSync(path, 'utf8')), [1])
  t.match(messages, [/^cannot write to .*app\.log, holding lines: ENOTDIR/, /^writing to .*app\.log again$/])
})

test('survives a full disk, counts, and goes on when there is room', { skip: noDisks }, async (t) => {
  const { folder, unmount } = mountDisk()
  t.teardown(unmount)
  const path = join(folder, 'app.log')
  writeFileSync(join(folder, 'ballast'), Buffer.alloc(600 * KIB))
  const sink = openFile({ path })
  await load(sink, 60_000)
  const full = statSync(path).size
  rmSync(join(folder, 'ballast'))
  const since = performance.now()
  await until(folder, () => statSync(path).size > full)
  const resumedMs = performance.now() - since
  await sink.close(100)
  const numbers = logged(folder)
  t.comment(`again after ${Math.round(resumedMs)} ms; ${numbers.length} lines, ${dropped(sink)} dropped`)
  t.ok(resumedMs < STARVED_MS)
  t.same(numbers, range(numbers.length))
  t.equal(numbers.length + dropped(sink), 60_000)
})

test('tears no line where a rotation meets a full disk', { skip: noDisks }, async (t) => {
  const { folder, unmount } = mountDisk()
  t.teardown(unmount)
  const sink = openFile({ path: join(folder, 'app.log'), maxSize: '50KB', maxTotalSize: '10MB', compress: false })
  await load(sink, 10_000)
  await sink.close(100)
  const numbers = logged(folder)
  t.same(sorted(numbers), range(numbers.length))
  t.equal(numbers.length + dropped(sink), 10_000)
})

for (const end of ['exit', 'throw', 'nothing'] as const) {
  test(`writes what it holds when the process ends by ${end}, also amid rotations`, async (t) => {
    const folder = t.testdir()
    const file: FileOptions = { path: join(folder, 'app.log'), maxSize: '100KB', maxTotalSize: '10MB' }
    t.equal((await startWriter({ file, lines: 5000, end }).report).code, end === 'throw' ? 1 : 0)
    // The next run tidies what was amid compression.
    await openFile(file).close(PATIENCE_MS)
    t.same(sorted(logged(folder)), range(5000))
  })
}

test('leaves no descriptor open, and counts what comes after close', {
  skip: process.platform !== 'linux'
}, async (t) => {
  const path = join(t.testdir(), 'app.log')
  const descriptors = readdirSync('/proc/self/fd').length
  const sink = openFile({ path, maxSize: '10KB', maxTotalSize: '1MB' })
  write(sink, range(200))
  await sink.close(PATIENCE_MS)
  write(sink, [200])
  sink.flushSync()
  t.equal(readdirSync('/proc/self/fd').length, descriptors)
  t.same([...sink.dropped], [['closed', 1]])
})

test('leaves no descriptor open where its own cannot be had when the file is opened anew', {
  skip: process.platform !== 'linux' && 'descriptors are counted in /proc'
}, async (t) => {
  const messages: string[] = []
  const { path, sink } = open(t, {}, (message) => messages.push(message))
  write(sink, [0])
  await sink.flush(PATIENCE_MS)

  const { openSync } = fs
  let refusals = 1
  function refuseOnce(...args: Parameters<typeof openSync>): number {
    if (args[0] === path && refusals-- > 0)
      throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' })
    return openSync(...args)
  }
  fs.openSync = refuseOnce
  syncBuiltinESMExports()
  t.teardown(() => {
    fs.openSync = openSync
    syncBuiltinESMExports()
  })
  process.kill(process.pid, 'SIGHUP')
  while (messages.length === 0) await turn()
  write(sink, [1])
  await sink.flush(PATIENCE_MS)

  t.match(messages, [/^cannot write to .*: EMFILE/, /^writing to .*app\.log again$/])
  const files = [...descriptorsOf('self').values()]
  t.equal(files.filter((file) => file === path).length, 2, 'the one of the stream, and its own')
})

test('refuses a path that cannot be written, in one sentence', async (t) => {
  const folder = t.testdir({ file: '', folder: {} })
  const refusal = /^@fastify-observability\/logging: option "file" must name a file that can be written, got '.*': \w+/
  t.throws(() => openFile({ path: join(folder, 'file', 'app.log') }), { message: refusal })
  t.throws(() => openFile({ path: join(folder, 'folder') }), { message: refusal })
  t.throws(() => openFile({ path: '/dev/null' }), { message: refusal })
})

test('refuses an invalid size, and a total that one file would fill', async (t) => {
  const path = join(t.testdir(), 'app.log')
  t.throws(() => openFile({ path, maxSize: '100' }), {
    message: `@fastify-observability/logging: option "file.maxSize" must be a size such as '100MB', got '100'`
  })
  t.throws(() => openFile({ path, maxSize: '1GB', maxTotalSize: '1GB' }), {
    message: '@fastify-observability/logging: option "file.maxTotalSize" must be more than "file.maxSize"'
  })
  t.same(['1B', '2kb', '3 MB', '4GB', '0MB', '5', 'MB', '-1B'].map(bytesOf), [
    1,
    2 * KIB,
    3 * KIB ** 2,
    4 * KIB ** 3,
    undefined,
    undefined,
    undefined,
    undefined
  ])
})
