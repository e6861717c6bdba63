import { EventEmitter, once } from 'node:events'
import { closeSync, constants, fstatSync, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, resolve } from 'node:path'
import type { RotatingFileStream } from 'rotating-file-stream'
import { keepArchives } from './archives.ts'
import { type Chunk, createSink, type Outlet, type Sink, STUCK_MS, sleepSync } from './sink.ts'

export interface FileOptions {
  path: string
  /** Size at which the file becomes an archive; the last line may exceed it. @default '100MB' */
  maxSize?: string
  /** Age at which an archive is deleted. @default 30 */
  maxAgeDays?: number
  /** What the file and its archives take together; the oldest are deleted for it. @default ten times maxSize */
  maxTotalSize?: string
  /** What archives are compressed with. @default 'gzip' */
  compress?: 'gzip' | false
}

/** The file that the stream appends to, through a descriptor of our own: it tells what has really arrived. */
interface Target {
  fd: number
  /** Where its last whole line ends. */
  size: number
  /** Whether the file system counts links, so that none means deleted. */
  linked: boolean
  /** Lines go only to an open one: not while archives make room for it, nor when the stream has left it. */
  phase: 'new' | 'open' | 'left'
}

/** A write that is not settled. */
interface Flight {
  chunk: Chunk
  target: Target
  length: number
}

// Loaded only where somebody wants a file.
const require = createRequire(import.meta.url)
const NAME = '@fastify-observability/logging'
const MODE = 0o640
const DAY_MS = 86_400_000
const RETRY_MS = 1000
// Not created: the stream's file must be there.
const APPEND = constants.O_WRONLY | constants.O_APPEND
const NOTHING = Buffer.alloc(0)
const SIZE = /^(\d+) ?([KMG]?)B$/i
const UNITS = new Map([
  ['K', 2 ** 10],
  ['M', 2 ** 20],
  ['G', 2 ** 30]
])

/** Bytes in a size such as `'100MB'`, in powers of 1024; undefined when it is none. */
export function bytesOf(size: string): number | undefined {
  const [, digits, unit = ''] = SIZE.exec(size) ?? []
  return Number(digits) * (UNITS.get(unit.toUpperCase()) ?? 1) || undefined
}

// Two streams would rotate a file away from each other.
const shared = new Map<string, { sink: Sink; users: number }>()

/**
 * Lines into a file that rotates by size and at midnight UTC and is opened anew on SIGHUP. Whoever opens the same path
 * while it is open shares it, with the options of the first.
 * `onState` hears when it cannot be written any more, and when it can again.
 * @throws Error when an option is wrong or the file cannot be opened.
 */
export function openFile(options: FileOptions, onState: (message: string) => void = () => undefined): Sink {
  const path = resolve(options.path)
  const file = shared.get(path) ?? { sink: createSink(rotatedFile(path, options, onState)), users: 0 }
  shared.set(path, file)
  file.users++
  let open = true
  return {
    ...file.sink,
    close(deadlineMs) {
      if (open) file.users--
      open = false
      if (file.users > 0) return file.sink.flush(deadlineMs)
      if (shared.get(path) === file) shared.delete(path)
      return file.sink.close(deadlineMs)
    }
  }
}

function rotatedFile(path: string, options: FileOptions, onState: (message: string) => void): Outlet {
  const { maxAgeDays = 30, compress = 'gzip' } = options
  const maxSize = readSize('maxSize', options.maxSize ?? '100MB')
  const maxTotalSize = options.maxTotalSize ? readSize('maxTotalSize', options.maxTotalSize) : maxSize * 10
  if (maxTotalSize <= maxSize) throw new Error(`${NAME}: option "file.maxTotalSize" must be more than "file.maxSize"`)
  proveWritable(path)
  const { createStream }: typeof import('rotating-file-stream') = require('rotating-file-stream')
  const archives = keepArchives(path, {
    compress: compress === 'gzip',
    maxAgeMs: maxAgeDays * DAY_MS,
    maxBytes: maxTotalSize - maxSize,
    mode: MODE
  })
  const changes = new EventEmitter()
  let stream: RotatingFileStream
  let current: Target | undefined
  let flight: Flight | undefined
  let retry: NodeJS.Timeout | undefined
  let failing = false
  let closing: Promise<void> | undefined

  function open(): void {
    stream = createStream((time, index = 1) => (time ? archives.name(index) : path), {
      size: `${maxSize}B`,
      interval: '1d',
      intervalBoundary: true,
      intervalUTC: true,
      initialRotation: true,
      mode: MODE
    })
    stream.on('open', opened).on('rotation', rotating).on('error', failed).on('close', closed)
  }

  function opened(): void {
    const target = targetAt(path, APPEND)
    leave(current)
    current = target
    archives.sweep().then(() => {
      if (target.phase === 'new' && stream.writable) target.phase = 'open'
      changes.emit('open')
    })
  }

  function rotating(): void {
    hold()
    // The library swallows the error of a rotation at midnight, but the next write gets it.
    queueMicrotask(() => {
      if (stream.writable) stream.write(NOTHING)
    })
  }

  function failed(error: Error): void {
    hold()
    if (!failing) tell(`cannot write to ${path}, holding lines: ${error.message}`)
    failing = true
  }

  function closed(): void {
    leave(current)
    current = undefined
    if (!closing) retry = setTimeout(open, failing ? RETRY_MS : 0).unref()
  }

  function hold(): void {
    if (current) current.phase = 'left'
  }

  /** Closes the file, or lets the write under way do it when it is settled. */
  function leave(target: Target | undefined): void {
    if (target && target !== flight?.target) closeSync(target.fd)
  }

  function reopen(): void {
    hold()
    stream.end()
  }

  function tell(message: string): void {
    try {
      onState(message)
    } catch {
      // It was told to somebody who fails too.
    }
  }

  /** The file, as soon as lines may go to it; none when the sink closes. */
  async function available(): Promise<Target | undefined> {
    while (current?.phase !== 'open' && !closing) await once(changes, 'open')
    return closing ? undefined : current
  }

  /** Looks at what has arrived of a write, and cuts off the piece of a line. */
  function settle({ chunk, target, length }: Flight): void {
    flight = undefined
    const { size, nlink } = fstatSync(target.fd)
    const deleted = target === current && target.linked && nlink === 0
    // Somebody may have emptied the file.
    const start = size < target.size ? 0 : target.size
    const arrived = deleted ? 0 : Math.min(size - start, length)
    const whole = Math.max(chunk.ends.findLast((end) => end <= chunk.sent + arrived) ?? 0, chunk.sent) - chunk.sent
    if (whole < arrived) ftruncateSync(target.fd, start + whole)
    target.size = whole < arrived ? start + whole : size
    chunk.sent += whole
    if (target !== current) closeSync(target.fd)
    if (whole > 0 && failing) tell(`writes to ${path} again`)
    if (whole > 0) failing = false
    if (deleted) reopen()
    else if (whole < length) stream.destroy(new Error(`${arrived} of ${length} bytes were taken`))
  }

  async function shut(deadlineMs: number): Promise<void> {
    const deadline = performance.now() + deadlineMs
    process.off('SIGHUP', reopen)
    clearTimeout(retry)
    changes.emit('open')
    stream.end()
    if (!stream.closed) await new Promise<void>((done) => stream.once('close', done))
    await archives.close(deadline - performance.now())
  }

  process.on('SIGHUP', reopen)
  open()

  return {
    async write(chunk) {
      while (chunk.sent < chunk.filled) {
        const target = await available()
        if (!target) return
        // The stream does not know what others and flushSync have written; opening the file it sees that it is full.
        if (target.size >= maxSize) {
          reopen()
          continue
        }
        const bytes = fitting(chunk, maxSize - target.size)
        const sent: Flight = { chunk, target, length: bytes.length }
        flight = sent
        const error = await new Promise((done) => stream.write(bytes, done))
        if (error) hold()
        // Unless flushSync has.
        if (flight === sent) settle(sent)
      }
    },
    writeSync(chunk, deadline) {
      if (performance.now() > deadline || (flight && !arrives(flight))) return false
      if (flight) settle(flight)
      const target = current ?? targetAt(path, APPEND | constants.O_CREAT)
      try {
        while (chunk.sent < chunk.filled) {
          chunk.sent += writeSync(target.fd, chunk.buffer, chunk.sent, chunk.filled - chunk.sent)
        }
        return true
      } catch {
        const whole = chunk.ends.findLast((end) => end <= chunk.sent) ?? 0
        ftruncateSync(target.fd, fstatSync(target.fd).size - (chunk.sent - whole))
        chunk.sent = whole
        return false
      } finally {
        target.size = fstatSync(target.fd).size
        if (target !== current) closeSync(target.fd)
      }
    },
    close(deadlineMs) {
      closing ??= shut(deadlineMs)
      return closing
    }
  }
}

/** Whole lines that fit into the room, but one at least. */
function fitting({ buffer, ends, sent, filled }: Chunk, room: number): Buffer {
  if (filled - sent <= room) return buffer.subarray(sent, filled)
  const last = ends.findLast((end) => end <= sent + room) ?? 0
  return buffer.subarray(sent, last > sent ? last : ends.find((end) => end > sent))
}

/** Waits for what the thread pool is writing. */
function arrives({ target, length }: Flight): boolean {
  const deadline = performance.now() + STUCK_MS
  while (fstatSync(target.fd).size < target.size + length) {
    if (performance.now() > deadline) return false
    sleepSync(1)
  }
  return true
}

function targetAt(path: string, flags: number): Target {
  const fd = openSync(path, flags, MODE)
  const { size, nlink } = fstatSync(fd)
  return { fd, size, linked: nlink > 0, phase: 'new' }
}

function readSize(option: string, size: string): number {
  const bytes = bytesOf(size)
  if (bytes === undefined)
    throw new Error(`${NAME}: option "file.${option}" must be a size such as '100MB', got '${size}'`)
  return bytes
}

function proveWritable(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true })
    const fd = openSync(path, APPEND | constants.O_CREAT | constants.O_NONBLOCK, MODE)
    const isFile = fstatSync(fd).isFile()
    closeSync(fd)
    if (!isFile) throw new Error('it is not a regular file')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`${NAME}: option "file" must name a file that can be written, got '${path}': ${reason}`)
  }
}
