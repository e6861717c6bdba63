import { fstatSync, write, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import { isMainThread } from 'node:worker_threads'
import type { Series } from '@fastify-observability/observation'
import {
  clearTimeout,
  type DeliveryReport,
  monotonicMs,
  setTimeout,
  sleep,
  sumOf,
  turn,
  within
} from '@fastify-observability/observation/internal'

/** A place lines go to. `write` never throws, never blocks the event loop and never grows past its bound. */
export interface Sink {
  /** Takes one event: a line with its newline, or a few lines that stay together. */
  write(line: string): void
  /**
   * Lines dropped, by reason: `buffer_full` (the system takes them too slowly or not at all), `write_error` (it refuses
   * them, the reader has gone), `closed` (they came after `close`, or were left when its deadline passed).
   */
  readonly dropped: ReadonlyMap<string, number>
  /** Lines taken and not yet handed to the system. Left out where nobody knows. */
  held?(): number
  /** Lines that have arrived. Left out where it is the rest. */
  delivered?(): number
  /** Why lines were dropped last, and when. */
  lastError?(): DeliveryReport['lastError']
  /** Where lines go, for a reader. */
  readonly destination: string
  /** What looks wrong with it, for a reader. */
  warning?(): string | undefined
  /** Whether lines leave this machine by it. */
  readonly isExport?: boolean
  /** Resolves when it is known what `series` are. Never rejects. */
  readonly opened?: Promise<void>
  /** Numbers of its own, for a metrics part to show. */
  readonly series?: readonly Series[]
  /** Hands everything to the system; resolves at the latest after `deadlineMs`, never rejects. */
  flush(deadlineMs: number): Promise<void>
  /** For a crash or the exit of the process: writes what is held synchronously, unless a write is stuck. */
  flushSync(): void
  /** Flushes, gives up what the deadline leaves, and releases files, timers and listeners. */
  close(deadlineMs: number): Promise<void>
}

/** Where a sink's lines go, some at a time. */
export interface Outlet {
  /** Sends the chunk, however long that takes. What it leaves unsent is lost. */
  write(chunk: Chunk): Promise<void>
  /** Sends the chunk now, waiting for `monotonicMs()` to pass `deadline` at most. False when something is left. */
  writeSync(chunk: Chunk, deadline: number): boolean
  /** Ends the pending `write` and releases everything. An outlet without it stays open for the next user. */
  close?(deadlineMs: number): Promise<void>
  /** Takes a write under way as sent that has arrived before its callback has run. */
  settleArrived?(): void
}

/** Whole lines, encoded. */
export interface Chunk {
  buffer: Buffer
  /** Where each line ends in the buffer. */
  ends: number[]
  filled: number
  sent: number
}

/** How much a sink holds of what the system has not taken. */
export const MAX_HELD_BYTES = 16 * 1024 * 1024
/** A write without progress for this long is stuck. */
export const STUCK_MS = 100
const CHUNK_BYTES = 256 * 1024
// One is being filled while another is being written. Memory beside the heap makes the garbage collector run.
const MAX_SPARES = 2
// Of UTF-8, for a unit of JavaScript's UTF-16.
const MAX_BYTES_A_UNIT = 3
const EXIT_PATIENCE_MS = 1000
// A write through the thread pool costs as much as fifty lines, and a reader does not see the difference.
const GATHER_MS = 50

/** A bounded queue of lines in front of an outlet. */
export function createSink(outlet: Outlet, destination = 'standard output'): Sink {
  const dropped = new Map<string, number>()
  const held: Chunk[] = []
  let heldBytes = 0
  let sending: Chunk | undefined
  const spares: Buffer[] = []
  let idle: PromiseWithResolvers<void> | undefined
  let gathering: NodeJS.Timeout | undefined
  let closed = false
  let lastError: DeliveryReport['lastError']

  function drop(reason: string, lines: number): void {
    if (lines > 0) lastError = { reason, timeMs: Date.now() }
    if (lines > 0) dropped.set(reason, (dropped.get(reason) ?? 0) + lines)
  }

  function giveUp(chunk: Chunk, reason: string): void {
    const through = chunk.ends.filter((end) => end <= chunk.sent)
    drop(reason, chunk.ends.length - through.length)
    chunk.ends = through
    chunk.filled = chunk.sent
  }

  function roomFor(line: string): Chunk | undefined {
    // Not at(-1), which V8 does by name for an array that was shifted.
    const last = held[held.length - 1]
    const room = last ? last.buffer.length - last.filled : 0
    // Looked at closely only near the end of a chunk: counting takes as long as writing.
    if (last && line.length * MAX_BYTES_A_UNIT <= room) return last
    const bytes = Buffer.byteLength(line)
    if (last && bytes <= room) return last
    const size = Math.max(bytes, CHUNK_BYTES)
    if (heldBytes + size > MAX_HELD_BYTES) return undefined
    heldBytes += size
    const chunk: Chunk = { buffer: bufferOf(size), ends: [], filled: 0, sent: 0 }
    held.push(chunk)
    return chunk
  }

  function bufferOf(size: number): Buffer {
    return (size === CHUNK_BYTES && spares.pop()) || Buffer.allocUnsafeSlow(size)
  }

  function release({ buffer }: Chunk): void {
    heldBytes -= buffer.length
    if (buffer.length === CHUNK_BYTES && spares.length < MAX_SPARES) spares.push(buffer)
  }

  async function drain(): Promise<void> {
    gathering = undefined
    for (sending = held.shift(); sending; sending = held.shift()) {
      await outlet.write(sending).catch(() => undefined)
      giveUp(sending, closed ? 'closed' : 'write_error')
      release(sending)
    }
    idle?.resolve()
    idle = undefined
  }

  async function flush(deadlineMs: number): Promise<void> {
    if (gathering) {
      clearTimeout(gathering)
      void drain()
    }
    if (idle) await within(deadlineMs, idle.promise)
  }

  return {
    destination,
    dropped,
    lastError: () => lastError,
    held: () => sumOf((sending ? [sending, ...held] : held).map(linesLeft)),
    write(line) {
      if (closed) return drop('closed', 1)
      // Encoded at once: what is held is then known to the byte, and pino's strings are ropes that take more.
      const chunk = roomFor(line)
      if (!chunk) return drop('buffer_full', 1)
      chunk.filled += chunk.buffer.write(line, chunk.filled)
      chunk.ends.push(chunk.filled)
      if (idle) return
      idle = Promise.withResolvers()
      gathering = setTimeout(drain, GATHER_MS)
    },
    flush,
    flushSync() {
      const deadline = monotonicMs() + EXIT_PATIENCE_MS
      try {
        for (const chunk of sending ? [sending, ...held] : held) if (!outlet.writeSync(chunk, deadline)) return
      } catch {
        // A crash has its own story to tell.
      }
    },
    async close(deadlineMs) {
      const deadline = monotonicMs() + deadlineMs
      await flush(deadlineMs)
      closed = outlet.close !== undefined
      for (const chunk of held) giveUp(chunk, 'closed')
      // The write under way may still succeed, so its chunk comes last.
      const leftMs = deadline - monotonicMs()
      if (outlet.close) await within(leftMs, outlet.close(leftMs))
      outlet.settleArrived?.()
      if (sending) giveUp(sending, 'closed')
    }
  }
}

function linesLeft({ ends, sent }: Chunk): number {
  return ends.filter((end) => end > sent).length
}

const MAX_PAUSE_MS = 50
const NEWLINE = Buffer.from('\n')
// Full for now, be it pipe, disk or quota. Any other refusal is final.
const FULL = new Set<unknown>(['EAGAIN', 'EBUSY', 'EINTR', 'ENOSPC', 'EDQUOT'])
const writeInPool = promisify(write)

let stdout: Sink | undefined

/**
 * Standard output, one for the process: two writers on one descriptor would cut into each other's lines.
 * `close` flushes and gives up what is left; the sink stays open.
 */
export function standardOutput(): Sink {
  if (stdout) return stdout
  const sink = createSink(descriptor(1))
  process.on('exit', () => sink.flushSync())
  stdout = sink
  return sink
}

function descriptor(fd: number): Outlet {
  // A write that blocks belongs in the thread pool, where it would also hold up the exit of the process.
  const blocks = !isNonBlocking(fd)
  let pooled: Chunk | undefined
  let stuckSince: number | undefined
  let torn = false

  function rest({ buffer, sent, filled }: Chunk): Buffer {
    const bytes = buffer.subarray(sent, filled)
    // A line that was cut stays alone.
    return torn ? Buffer.concat([NEWLINE, bytes]) : bytes
  }

  function advance(chunk: Chunk, written: number): void {
    stuckSince = undefined
    chunk.sent += torn ? written - NEWLINE.length : written
    torn = false
  }

  async function writePooled(chunk: Chunk): Promise<number> {
    pooled = chunk
    stuckSince ??= monotonicMs()
    try {
      return (await writeInPool(fd, rest(chunk))).bytesWritten
    } finally {
      pooled = undefined
    }
  }

  function isStuck(): boolean {
    return stuckSince !== undefined && monotonicMs() - stuckSince > STUCK_MS
  }

  return {
    async write(chunk) {
      for (let refusals = 0; chunk.sent < chunk.filled; ) {
        try {
          advance(chunk, blocks ? await writePooled(chunk) : writeSync(fd, rest(chunk)))
          refusals = 0
        } catch (error) {
          if (!isFull(error)) break
          stuckSince ??= monotonicMs()
          await pause(refusals++)
        }
      }
      if (chunk.sent > 0) torn = !chunk.ends.includes(chunk.sent)
    },
    writeSync(chunk, deadline) {
      // The pool finishes its write before the process ends.
      if (chunk === pooled) return !isStuck()
      while (chunk.sent < chunk.filled) {
        try {
          advance(chunk, writeSync(fd, rest(chunk)))
        } catch (error) {
          if (!isFull(error) || isStuck() || monotonicMs() > deadline) return false
          stuckSince ??= monotonicMs()
          sleepSync(1)
        }
      }
      return true
    }
  }
}

// Node makes a pipe or socket non-blocking when it opens its own stream on it, which it does at first use.
function isNonBlocking(fd: number): boolean {
  const file = fstatSync(fd)
  return (file.isFIFO() || file.isSocket()) && isMainThread && process.stdout.writable
}

/** A reader that is at work needs a moment, one that is not is asked less and less often. */
async function pause(refusals: number): Promise<void> {
  if (refusals < 8) await turn()
  else await sleep(Math.min(2 ** (refusals - 8), MAX_PAUSE_MS), undefined, { ref: false })
}

/** Whether a write may succeed later. */
export function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && FULL.has(error.code)
}

/** Stops the thread, for the last writes of a process. */
export function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
