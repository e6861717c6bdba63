import { EventEmitter, once } from 'node:events'
import { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { attempt, watchResult, within } from '@fastify-observability/observation/internal'
import type { DestinationStream, pino } from 'pino'
import type { Sink } from './sink.ts'

/** What a function in the place of a stream's `write` gets to call back for the first time: a test's may never do. */
const FIRST_ANSWER_MS = 500

/** A user's stream, which may throw, hang, and end before the app does. It stays theirs: it is flushed and not closed. */
export function streamSink(stream: DestinationStream): Sink {
  const dropped = new Map<string, number>()
  // Lines for which a function in the place of `write` has not called back.
  let pending = 0
  let answers = false
  let patienceMs = FIRST_ANSWER_MS
  let idle: PromiseWithResolvers<void> | undefined

  function drop(reason: string): void {
    dropped.set(reason, (dropped.get(reason) ?? 0) + 1)
  }

  function refuse(): void {
    drop('write_error')
  }

  function writeTo(stream: DestinationStream, line: string): void {
    // One that has ended would emit an error, which nobody may listen to.
    if (hasEnded(stream)) drop('closed')
    else if (isReplaced(stream)) writeToReplaced(stream, line)
    else if (isSeveral(stream) && stream.streams.some(needsCare)) writeToSeveral(stream, line)
    else watchResult(stream.write(line), refuse)
  }

  function writeToReplaced(stream: Writable, line: string): void {
    let isPending = true
    pending++
    /** Once a line: some call back twice, or call back and then throw. */
    function settle(isRefused: boolean): void {
      if (!isPending) return
      isPending = false
      if (isRefused) refuse()
      if (--pending > 0) return
      idle?.resolve()
      idle = undefined
    }
    function answered(error?: unknown): void {
      answers = true
      settle(Boolean(error))
    }
    attempt(
      () => stream.write(line, 'utf8', answered),
      () => settle(true)
    )
  }

  /** Has pino choose among them, and writes to those that need care as to one stream. */
  function writeToSeveral(several: pino.MultiStreamRes, line: string): void {
    const { streams } = several
    several.streams = streams.map((entry) =>
      needsCare(entry) ? { ...entry, stream: { write: (line) => writeTo(entry.stream, line) } } : entry
    )
    try {
      several.write(line)
    } finally {
      several.streams = streams
    }
  }

  async function answeredAll(deadlineMs: number): Promise<void> {
    if (pending <= 0) return
    idle ??= Promise.withResolvers()
    const { promise } = idle
    if (!answers) await within(Math.min(patienceMs, deadlineMs), promise)
    if (answers) await within(deadlineMs, promise)
    else patienceMs = 0
  }

  async function flush(deadlineMs: number): Promise<void> {
    await within(deadlineMs, Promise.allSettled([answeredAll(deadlineMs), flushed(stream)]))
  }

  return {
    destination: "the application's stream",
    dropped,
    write(line) {
      try {
        writeTo(stream, line)
      } catch {
        refuse()
      }
    },
    flush,
    flushSync() {
      try {
        if ('flushSync' in stream && typeof stream.flushSync === 'function') stream.flushSync()
      } catch {
        // One that is not open yet, or that has failed.
      }
    },
    close: flush
  }
}

/** Resolves when the stream has passed on what it holds, as far as it can tell. */
async function flushed(stream: DestinationStream): Promise<void> {
  if (isSeveral(stream)) {
    await Promise.allSettled(stream.streams.map(({ stream }) => flushed(stream)))
    return
  }
  if (stream instanceof Writable) {
    if (hasEnded(stream)) {
      if (!stream.closed) await finished(stream, { readable: false, cleanup: true })
    } else if (stream.writableLength > 0) {
      // Its own: another in its place may add something to each text.
      await new Promise<void>((done) => Writable.prototype.write.call(stream, '', 'utf8', () => done()))
    }
    return
  }
  if (stream instanceof EventEmitter) return flushedByPino(stream)
  if ('flushSync' in stream && typeof stream.flushSync === 'function') stream.flushSync()
}

/** The same for pino's destinations and transports, which are not streams of Node's. */
async function flushedByPino(stream: DestinationStream & EventEmitter): Promise<void> {
  // One that writes at once calls back although its file is not open yet, and one that ends then writes everything twice.
  if ('fd' in stream && stream.fd === -1 && !hasEnded(stream)) await once(stream, 'ready')
  if (hasEnded(stream)) {
    if ('closed' in stream && stream.closed === false) await once(stream, 'close')
  } else if ('_ending' in stream && stream._ending === true) {
    await once(stream, 'close')
  } else if ('flush' in stream && typeof stream.flush === 'function') {
    const { promise, resolve } = Promise.withResolvers<unknown>()
    stream.flush(resolve)
    await promise
    // It calls back although a write is under way.
    if ('_len' in stream && Number(stream._len) > 0) await once(stream, 'drain')
  } else if ('flushSync' in stream && typeof stream.flushSync === 'function') {
    stream.flushSync()
  }
}

function needsCare({ stream }: pino.StreamEntry): boolean {
  return hasEnded(stream) || isReplaced(stream)
}

/** One of pino's that passes lines on to others. */
function isSeveral(stream: DestinationStream): stream is pino.MultiStreamRes {
  return 'streams' in stream && Array.isArray(stream.streams)
}

/** Whether it takes no more: a stream of Node's, a response, a transport or destination of pino's. */
function hasEnded(stream: DestinationStream): boolean {
  return (
    stream instanceof EventEmitter &&
    (Reflect.get(stream, 'writable') === false ||
      Reflect.get(stream, 'writableEnded') === true ||
      Reflect.get(stream, 'destroyed') === true)
  )
}

/**
 * Whether a function of somebody's stands in the place of `write`. PM2's holds lines of which the stream does not know, and calls
 * back when they are written.
 */
function isReplaced(stream: DestinationStream): stream is Writable {
  return stream instanceof Writable && Object.hasOwn(stream, 'write')
}
