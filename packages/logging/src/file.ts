import { EventEmitter, once } from 'node:events'
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  writeSync
} from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { isMainThread, threadId } from 'node:worker_threads'
import { clearTimeout, documented, monotonicMs, setTimeout } from '@fastify-observability/observation/internal'
import { createStream, type RotatingFileStream } from 'rotating-file-stream'
import { type Archives, keepArchives, PID } from './archives.ts'
import { type Chunk, createSink, type Outlet, type Sink, STUCK_MS, sleepSync } from './sink.ts'

/** A log file, and when it rotates. */
export interface FileOptions {
  /** `%pid` in it becomes the id of the process, and of the thread in a worker thread. */
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

/** The file that the stream appends to, through a descriptor of our own: it shows what has really arrived. */
interface Target {
  fd: number
  /** Where its last whole line ends. */
  size: number
  /** Whether the file system counts links, so that none means deleted. */
  linked: boolean
  /** When it was opened, in days since the epoch. */
  day: number
  /** Lines go only to an open one: not while archives make room for it, nor when the stream has left it. */
  phase: 'new' | 'open' | 'left'
}

/**
 * `writing`: lines go to the file. `failing`: it cannot be written, lines are held and it is opened again every second.
 * `closing`: no line is accepted any more.
 */
type State = 'writing' | 'failing' | 'closing'

/** A write that is not settled. */
interface Flight {
  chunk: Chunk
  target: Target
  length: number
  /** How much of it has arrived cannot be seen where others write too. */
  isRefused?: boolean
}

const NAME = '@fastify-observability/logging'
const MODE = 0o640
const DAY_MS = 86_400_000
const RETRY_MS = 1000
const CONTENTION_MS = 600_000
// Not created: the stream's file must be there.
const APPEND = constants.O_WRONLY | constants.O_APPEND
const NOTHING = Buffer.alloc(0)
const NEWLINE = Buffer.from('\n')
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

// The files of a process share one listener: Node warns of an eleventh.
const reopening = new Set<() => void>()

// Two streams would rotate a file away from each other.
const shared = new Map<string, { sink: Sink; users: number }>()

/**
 * Lines into a file that rotates by size and at midnight UTC and is opened anew on SIGHUP. Opening a path that is open shares
 * the file, with the options of the first.
 * `onState` receives when it cannot be written any more, and when it can again.
 * @throws Error when an option is wrong or the file cannot be opened.
 */
export function openFile(options: FileOptions, onState: (message: string) => void = () => undefined): Sink {
  const path = resolve(options.path.replace(PID, isMainThread ? `${process.pid}` : `${process.pid}-${threadId}`))
  const file = shared.get(path) ?? { sink: sinkOf(rotatedFile(path, options, onState), path), users: 0 }
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

function sinkOf(file: RotatedFile, path: string): Sink {
  return { ...createSink(file, path), warning: () => (file.isContended ? contentionOf(path) : undefined) }
}

function contentionOf(path: string): string {
  return `another process or thread writes to ${path} too: put ${PID} into its name, or log to standard output only`
}

/** @throws Error when an option is wrong or the file cannot be opened. */
function rotatedFile(path: string, options: FileOptions, onState: (message: string) => void): RotatedFile {
  const { maxAgeDays = 30, compress = 'gzip' } = options
  const maxSize = readSize('maxSize', options.maxSize ?? '100MB')
  const maxTotalSize = options.maxTotalSize ? readSize('maxTotalSize', options.maxTotalSize) : maxSize * 10
  if (maxTotalSize <= maxSize) throw optionError('file.maxTotalSize', 'must be more than "file.maxSize"')
  proveWritable(path)
  const archives = keepArchives(path, {
    compress: compress === 'gzip',
    maxAgeMs: maxAgeDays * DAY_MS,
    maxBytes: maxTotalSize - maxSize,
    mode: MODE,
    template: basename(options.path),
    isContended: () => file.isContended
  })
  const file = new RotatedFile(path, maxSize, archives, onState)
  return file
}

class RotatedFile implements Outlet {
  private contendedMs = Number.NEGATIVE_INFINITY
  private readonly path: string
  private readonly maxSize: number
  private readonly archives: Archives
  private readonly onState: (message: string) => void
  private readonly changes = new EventEmitter()
  private state: State = 'writing'
  private stream: RotatingFileStream
  private current: Target | undefined
  private flight: Flight | undefined
  private retry: NodeJS.Timeout | undefined
  private closed: Promise<void> | undefined

  constructor(path: string, maxSize: number, archives: Archives, onState: (message: string) => void) {
    this.path = path
    this.maxSize = maxSize
    this.archives = archives
    this.onState = onState
    reopenAtHangup(this.reopen)
    this.stream = this.open()
  }

  /** Whether somebody else writes to it. In a roll-out it is the predecessor, for a while. */
  get isContended(): boolean {
    return monotonicMs() - this.contendedMs < CONTENTION_MS
  }

  async write(chunk: Chunk): Promise<void> {
    while (chunk.sent < chunk.filled) {
      const target = await this.available()
      if (!target) return
      if (this.isReplaced(target)) {
        this.reopen()
        continue
      }
      if (this.isContended) this.noticeOthers(target, endTornLine(this.path, target.fd))
      // The stream does not know what others and writeSync have written; opening the file it sees that it is full.
      // A clock that is set over midnight does not make the timer of the stream run out.
      if (target.size >= this.maxSize || today() > target.day) {
        this.reopen()
        continue
      }
      const bytes = fitting(chunk, this.maxSize - target.size)
      const sent: Flight = { chunk, target, length: bytes.length }
      this.flight = sent
      const error = await new Promise((done) => this.stream.write(bytes, done))
      if (error) this.hold()
      // Not by a rotation that failed after the write.
      sent.isRefused = error instanceof Error && 'syscall' in error && error.syscall === 'write'
      // Unless writeSync has settled it.
      if (this.flight === sent) this.settle(sent)
    }
  }

  writeSync(chunk: Chunk, deadline: number): boolean {
    if (monotonicMs() > deadline || (this.flight && !arrives(this.flight))) return false
    if (this.flight) this.settle(this.flight)
    const target = this.current ?? targetAt(this.path, APPEND | constants.O_CREAT)
    try {
      while (chunk.sent < chunk.filled) {
        chunk.sent += writeSync(target.fd, chunk.buffer, chunk.sent, chunk.filled - chunk.sent)
      }
      return true
    } catch {
      const whole = chunk.ends.findLast((end) => end <= chunk.sent) ?? 0
      if (!this.isContended) ftruncateSync(target.fd, fstatSync(target.fd).size - (chunk.sent - whole))
      chunk.sent = whole
      return false
    } finally {
      target.size = fstatSync(target.fd).size
      if (target !== this.current) closeSync(target.fd)
    }
  }

  settleArrived(): void {
    if (this.flight && hasArrived(this.flight)) this.settle(this.flight)
  }

  close(deadlineMs: number): Promise<void> {
    this.closed ??= this.shut(deadlineMs)
    return this.closed
  }

  private open(): RotatingFileStream {
    const stream = createStream((time) => (time ? this.archives.name() : this.path), {
      size: `${this.maxSize}B`,
      interval: '1d',
      intervalBoundary: true,
      intervalUTC: true,
      initialRotation: true,
      mode: MODE
    })
    this.stream = stream
    stream.on('open', () => this.onOpen())
    stream.on('rotation', () => this.onRotation())
    stream.on('error', (error) => this.onError(error))
    stream.on('close', () => this.onClose())
    return stream
  }

  private onOpen(): void {
    const target = this.openAgain()
    if (!target) return
    this.leave(this.current)
    this.current = target
    if (!isFileOf(this.stream, target)) this.reopen()
    this.archives.sweep().then(() => {
      if (target.phase === 'new' && this.stream.writable) target.phase = 'open'
      this.changes.emit('open')
    })
  }

  /** The file that the stream has just opened: somebody may have deleted it, or this descriptor is one too many. */
  private openAgain(): Target | undefined {
    try {
      return targetAt(this.path, APPEND)
    } catch (error) {
      // Thrown, it would have the library forget to close its own.
      this.stream.destroy(error instanceof Error ? error : undefined)
      return undefined
    }
  }

  private onRotation(): void {
    this.hold()
    // The library swallows the error of a rotation at midnight, but the next write gets it.
    queueMicrotask(() => {
      if (this.stream.writable) this.stream.write(NOTHING)
    })
  }

  private onError(error: Error): void {
    this.hold()
    if (this.state !== 'failing') this.report(`cannot write to ${this.path}, holding lines: ${error.message}`)
    if (this.state === 'writing') this.state = 'failing'
  }

  private onClose(): void {
    this.leave(this.current)
    this.current = undefined
    if (this.state === 'closing') return
    this.retry = setTimeout(() => this.open(), this.state === 'failing' ? RETRY_MS : 0).unref()
  }

  private hold(): void {
    if (this.current) this.current.phase = 'left'
  }

  /** Closes the file, or lets the write under way do it when it is settled. */
  private leave(target: Target | undefined): void {
    if (target && target !== this.flight?.target) closeSync(target.fd)
  }

  private readonly reopen = (): void => {
    this.hold()
    this.stream.end()
  }

  private report(message: string): void {
    try {
      this.onState(message)
    } catch {
      // What receives the message may fail too.
    }
  }

  /** The file, as soon as lines may go to it; none when the file closes. */
  private async available(): Promise<Target | undefined> {
    while (this.current?.phase !== 'open' && !this.isClosing()) await once(this.changes, 'open')
    return this.isClosing() ? undefined : this.current
  }

  /** Whether another process has rotated the file. One that was moved away is written to until SIGHUP. */
  private isReplaced({ fd }: Target): boolean {
    try {
      const file = statSync(this.path, { throwIfNoEntry: false })
      return file !== undefined && file.ino !== fstatSync(fd).ino
    } catch {
      return false
    }
  }

  /** Compares the size with what it would be without others. */
  private noticeOthers(target: Target, size: number): void {
    if (size <= target.size) return
    const isKnown = this.isContended
    this.contendedMs = monotonicMs()
    target.size = size
    if (!isKnown) this.report(contentionOf(this.path))
  }

  private isClosing(): boolean {
    return this.state === 'closing'
  }

  /** Looks at what has arrived of a write, and cuts off the piece of a line. */
  private settle({ chunk, target, length, isRefused }: Flight): void {
    this.flight = undefined
    const { size, nlink } = fstatSync(target.fd)
    const deleted = target === this.current && target.linked && nlink === 0
    // Somebody may have emptied the file.
    const start = size < target.size ? 0 : target.size
    this.noticeOthers(target, size - length)
    const arrived = deleted || (isRefused && this.isContended) ? 0 : Math.min(size - start, length)
    const whole = Math.max(chunk.ends.findLast((end) => end <= chunk.sent + arrived) ?? 0, chunk.sent) - chunk.sent
    const isCut = whole < arrived && !this.isContended
    if (isCut) ftruncateSync(target.fd, start + whole)
    target.size = isCut ? start + whole : size
    chunk.sent += whole
    if (target !== this.current) closeSync(target.fd)
    if (whole > 0 && this.state === 'failing') {
      this.state = 'writing'
      this.report(`writing to ${this.path} again`)
    }
    if (deleted) this.reopen()
    else if (whole < length) this.stream.destroy(new Error(`${arrived} of ${length} bytes were written`))
  }

  private async shut(deadlineMs: number): Promise<void> {
    const deadline = monotonicMs() + deadlineMs
    this.state = 'closing'
    forgetAtHangup(this.reopen)
    clearTimeout(this.retry)
    this.changes.emit('open')
    this.stream.end()
    if (!this.stream.closed) await new Promise<void>((done) => this.stream.once('close', done))
    await this.archives.close(deadline - monotonicMs())
  }
}

function reopenAtHangup(reopen: () => void): void {
  if (reopening.size === 0) process.on('SIGHUP', reopenAll)
  reopening.add(reopen)
}

function forgetAtHangup(reopen: () => void): void {
  reopening.delete(reopen)
  if (reopening.size === 0) process.off('SIGHUP', reopenAll)
}

function reopenAll(): void {
  for (const reopen of reopening) reopen()
}

/** Whole lines that fit into the room, but one at least. */
function fitting({ buffer, ends, sent, filled }: Chunk, room: number): Buffer {
  if (filled - sent <= room) return buffer.subarray(sent, filled)
  const last = ends.findLast((end) => end <= sent + room) ?? 0
  return buffer.subarray(sent, last > sent ? last : ends.find((end) => end > sent))
}

/** False when another process has rotated the file since the stream opened it. */
function isFileOf(stream: RotatingFileStream, { fd }: Target): boolean {
  const { fd: own } = Object(Reflect.get(stream, 'file'))
  return typeof own !== 'number' || fstatSync(own).ino === fstatSync(fd).ino
}

/** Waits for what the thread pool is writing. */
function arrives(flight: Flight): boolean {
  const deadline = monotonicMs() + STUCK_MS
  while (!hasArrived(flight)) {
    if (monotonicMs() > deadline) return false
    sleepSync(1)
  }
  return true
}

function hasArrived({ target, length }: Flight): boolean {
  return fstatSync(target.fd).size >= target.size + length
}

function targetAt(path: string, flags: number): Target {
  const fd = openSync(path, flags, MODE)
  const { size, nlink } = fstatSync(fd)
  return { fd, size, linked: nlink > 0, day: today(), phase: 'new' }
}

function today(): number {
  return Math.floor(Date.now() / DAY_MS)
}

function readSize(option: string, size: string): number {
  const bytes = bytesOf(size)
  if (bytes === undefined) throw optionError(`file.${option}`, `must be a size such as '100MB', got '${size}'`)
  return bytes
}

function proveWritable(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true })
    const fd = openSync(path, APPEND | constants.O_CREAT | constants.O_NONBLOCK, MODE)
    const file = fstatSync(fd)
    if (file.isFile()) endTornLine(path, fd)
    closeSync(fd)
    if (!file.isFile()) throw new Error('it is not a regular file')
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw optionError('file', `must name a file that can be written, got '${path}': ${reason}`)
  }
}

function optionError(option: string, rule: string): Error {
  return documented(new Error(`${NAME}: option "${option}" ${rule}`), 'logger-and-log-file')
}

/** A crash may have cut the last line: the next one must not continue it. What the size is then. */
function endTornLine(path: string, fd: number): number {
  const { size } = fstatSync(fd)
  try {
    if (size > 0 && lastByte(path, size) !== NEWLINE[0]) return size + writeSync(fd, NEWLINE)
  } catch {
    // It may be unreadable to us, or the disk is full: no reason not to start.
  }
  return size
}

function lastByte(path: string, size: number): number | undefined {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    const last = Buffer.alloc(1)
    readSync(fd, last, 0, 1, size - 1)
    return last[0]
  } finally {
    closeSync(fd)
  }
}
