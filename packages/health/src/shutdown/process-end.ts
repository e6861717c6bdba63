import { setTimeout } from '@fastify-observability/observation/internal'
import { type ShutdownSignal, SIGNALS } from '../options.ts'

/** What an app does when its process has to end. */
export interface ProcessEnd {
  readonly signals: readonly ShutdownSignal[]
  /** Rejects when something went wrong: the process then ends with code 1. */
  shutDown(signal: ShutdownSignal): Promise<void>
  /** Receives the first uncaught error or rejection. The process waits for it, though not for ever. */
  crash(error: unknown): Promise<void>
  /** Receives those that come while the process ends, such as another rejection of the same outage. */
  reportFurther(error: unknown): void
}

const ERRORS = ['uncaughtException', 'unhandledRejection'] as const
/** For how long the process may live after an uncaught error: telemetry is sent within two seconds. */
const CRASH_MS = 2_200

// The apps of a process end with it together. They share one listener: Node warns of an eleventh.
const ends = new Set<ProcessEnd>()
let isSignalled = false
let isCrashing = false

/**
 * Ends the process on a signal of the app's or an uncaught error, once all of its apps are done: with code 0, or with 1 where
 * an app has failed or the error was uncaught.
 * @returns a function that takes the app out
 */
export function onProcessEnd(end: ProcessEnd): () => void {
  ends.add(end)
  listen()
  return () => {
    ends.delete(end)
    listen()
  }
}

function listen(): void {
  const wanted = new Set(Array.from(ends).flatMap(({ signals }) => signals))
  for (const signal of SIGNALS) {
    const isListening = process.listenerCount(signal, receiveSignal) > 0
    if (wanted.has(signal) && !isListening) process.on(signal, receiveSignal)
    // After a signal a second one still ends the process, whatever has closed.
    if (!wanted.has(signal) && !isSignalled) process.off(signal, receiveSignal)
  }
  for (const event of ERRORS) {
    const isListening = process.listenerCount(event, receiveError) > 0
    if (ends.size > 0 && !isListening) process.on(event, receiveError)
    if (ends.size === 0) process.off(event, receiveError)
  }
}

function receiveSignal(signal: NodeJS.Signals): void {
  if (isSignalled) process.exit(1)
  isSignalled = true
  void shutDown(signal)
}

async function shutDown(signal: NodeJS.Signals): Promise<void> {
  const concerned = Array.from(ends).flatMap((end) => {
    const own = end.signals.find((one) => one === signal)
    return own === undefined ? [] : [end.shutDown(own)]
  })
  const results = await Promise.allSettled(concerned)
  if (!isCrashing) process.exit(results.some(({ status }) => status === 'rejected') ? 1 : 0)
}

function receiveError(error: unknown): void {
  if (isCrashing) {
    for (const end of ends) end.reportFurther(error)
    return
  }
  isCrashing = true
  setTimeout(() => process.exit(1), CRASH_MS)
  void Promise.allSettled(Array.from(ends, ({ crash }) => crash(error))).then(() => process.exit(1))
}
