import { AsyncLocalStorage } from 'node:async_hooks'
import {
  monotonicMs,
  type Registry,
  runInBackground,
  thrownText,
  within
} from '@fastify-observability/observation/internal'
import type { NodeClient } from '@sentry/node'
import { findForeign, type OwnClient, startClient } from './client.ts'
import { type Counters, countDrops, countResponses, createCounters } from './counters.ts'
import { watchCrashes } from './crash.ts'
import { capturable, isReadable, stamp } from './failure.ts'
import type { Live } from './live.ts'
import { NAME, type Settings } from './options.ts'
import { createRateLimit, type RateLimit } from './rate-limit.ts'
import { createScopes } from './request-scopes.ts'
import { isInUse, loadSDK } from './sdk.ts'
import { deliverInBackground } from './transport.ts'

/** Captures an event. @param happenedAt in milliseconds, where it is captured later than it happened */
type Capture = (live: Live, happenedAt?: number) => void

/** The way to Sentry of one or more apps, from their registration on. The SDK is loaded when it is needed. */
export interface Connection {
  readonly dsn: string | undefined
  readonly rateLimit: RateLimit
  readonly counters: Counters
  /** Of the app whose rules clean the events of our client. */
  readonly rules: Registry | undefined
  readonly live: Live | undefined
  /** Loads the SDK and opens the client, or shares what is open. `undefined` where there is none. */
  connect(): Promise<Live | undefined>
  /** The same, where nobody waits for it. */
  connectLater(): void
  /** Calls the function when there is a client, at once if there is one. */
  onLive(listener: (live: Live) => void): void
  /** Captures now, or when the SDK is loaded, which it begins. */
  capture(capture: Capture): void
  /** Resolves with `true` when all events have been delivered or dropped. */
  flush(timeoutMs: number): Promise<boolean>
  hold(): void
  /** The last app sends what is waiting. False if some of it could not be sent in time. */
  release(): Promise<boolean>
}

/** Loading takes a tenth of this on a machine that has nothing else to do. */
const LOAD_MS = 10_000
/** As many as the SDK itself lets wait. */
const MAX_WAITING = 64

// The SDK has one client a process: the apps of a process share ours, and its last one closes it.
let shared: Connection | undefined
const adopted = new WeakMap<NodeClient, Connection>()

/** The connection that the apps of the process share. */
export async function connectionOf(
  settings: Settings,
  rules: Registry,
  warn: (message: string) => void
): Promise<Connection> {
  // Nothing is gained by waiting where it is loaded, and what the application captures itself would be lost.
  const Sentry = isInUse() ? await loadSDK() : undefined
  const foreign = Sentry && findForeign(Sentry)
  const connection = (foreign && adopted.get(foreign)) ?? shared ?? createConnection(settings, rules, warn)
  if (!foreign) shared = connection
  connection.hold()
  if (Sentry) await connection.connect()
  if (!foreign && connection.dsn !== settings.dsn) warn("another app's DSN is in use in this process")
  return connection
}

function createConnection(settings: Settings, rules: Registry, warn: (message: string) => void): Connection {
  const counters = createCounters()
  const rateLimit = createRateLimit(settings)
  const waiting: { capture: Capture; happenedAt: number }[] = []
  const listeners: ((live: Live) => void)[] = []
  let connecting: Promise<Live | undefined> | undefined
  let live: Live | undefined
  let own: OwnClient | undefined
  let holders = 0
  let isOver = false

  async function open(): Promise<Live | undefined> {
    const Sentry = await loadSDK()
    // Closed meanwhile, with nothing to send.
    if (!Sentry || isOver) return undefined
    const foreign = findForeign(Sentry)
    if (foreign) adopt(foreign)
    else own = await startClient(Sentry, settings, rules, { counters, rateLimit }, warn)
    const client = foreign ?? own?.client
    if (!client) return undefined
    const isTracing = own?.isTracing ?? false
    const scopes = createScopes(Sentry, client, isTracing ? settings.tracesSampleRate : 0)
    return { Sentry, client, isForeign: foreign !== undefined, isTracing, traceRate: own?.traceRate, scopes }
  }

  /** Counts what happens to the events of a client that the user has made. */
  function adopt(client: NodeClient): void {
    // Its own handlers report how the process ends.
    crashes.stop()
    adopted.set(client, connection)
    if (shared === connection) shared = undefined
    countResponses(client, counters, true)
    countDrops(client, counters)
    deliverInBackground(client, counters)
  }

  async function connect(): Promise<Live | undefined> {
    try {
      live = await open()
    } catch (error) {
      giveUp()
      throw error
    }
    if (!live) giveUp()
    else {
      for (const listener of listeners.splice(0)) listener(live)
      for (const { capture, happenedAt } of waiting.splice(0)) captureLate(live, capture, happenedAt)
    }
    return live
  }

  function begin(): Promise<Live | undefined> {
    connecting ??= runInBackground(connect)
    return connecting
  }

  /** Resolves when there is a client, or will be none. */
  async function settled(): Promise<void> {
    await begin().catch(() => undefined)
  }

  function beginLater(): void {
    if (connecting || isOver) return
    begin().catch((error) => warn(`no events are sent: ${thrownText(error)}`))
  }

  function capture(capture: Capture): void {
    if (live) {
      capture(live)
      return
    }
    if (isOver || waiting.length === MAX_WAITING) {
      drop(isOver ? 'not_loaded' : 'queue_overflow', 1)
      return
    }
    counters.waiting++
    // The scope of what it happened in is the one that it is captured in.
    waiting.push({ capture: AsyncLocalStorage.bind(capture), happenedAt: Date.now() })
    beginLater()
  }

  function captureLate(live: Live, capture: Capture, happenedAt: number): void {
    counters.waiting--
    try {
      capture(live, happenedAt)
    } catch (error) {
      counters.dropped.add('unreadable')
      rules.report(NAME, error)
    }
  }

  function drop(reason: string, count: number): void {
    counters.dropped.add(reason, count)
    for (const onDrop of counters.onDrop) for (let left = count; left > 0; left--) onDrop()
  }

  /** There will be no client. */
  function giveUp(): void {
    isOver = true
    crashes.stop()
    if (shared === connection) shared = undefined
    const lost = waiting.splice(0).length
    counters.waiting -= lost
    if (lost > 0) drop('not_loaded', lost)
  }

  async function close(): Promise<boolean> {
    if (!live && waiting.length > 0) await within(LOAD_MS, settled())
    if (live) return own ? own.close() : true
    const isEmpty = waiting.length === 0
    giveUp()
    return isEmpty
  }

  const crashes = watchCrashes((thrown, level) => {
    if (!isReadable(thrown)) return drop('unreadable', 1)
    capture(({ Sentry, client }, happenedAt) => {
      const mechanism = { handled: false, type: 'uncaught' }
      const scope = stamp(Sentry.getCurrentScope().clone(), happenedAt)
      client.captureException(
        capturable(thrown),
        { originalException: thrown, captureContext: { level }, mechanism },
        scope
      )
    })
  }, close)

  const connection: Connection = {
    dsn: settings.dsn,
    rateLimit,
    counters,
    rules,
    get live() {
      return live
    },
    connect: begin,
    connectLater: beginLater,
    onLive(listener) {
      if (live) listener(live)
      else listeners.push(listener)
    },
    capture,
    async flush(timeoutMs) {
      const deadline = monotonicMs() + timeoutMs
      if (!live && waiting.length > 0) await within(timeoutMs, settled())
      if (!live) return waiting.length === 0
      // The SDK takes 0 for no limit.
      return live.client.flush(Math.max(1, deadline - monotonicMs()))
    },
    hold: () => void holders++,
    async release() {
      if (--holders > 0) return true
      crashes.stop()
      if (shared === connection) shared = undefined
      return close()
    }
  }
  return connection
}

/** Hands each error event to the function, as it is sent, and `undefined` for one that is dropped before. @returns what ends that */
export function watchEvents(
  { counters, onLive }: Connection,
  receive: (event: object | undefined) => void
): () => void {
  const drop = (): void => receive(undefined)
  let isOver = false
  let stop: (() => void) | undefined
  counters.onDrop.add(drop)
  onLive(({ client }) => {
    if (isOver) return
    stop = client.on('beforeSendEvent', (event) => {
      if (event.type === undefined) receive(event)
    })
  })
  return () => {
    isOver = true
    counters.onDrop.delete(drop)
    stop?.()
  }
}
