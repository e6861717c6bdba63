import { statfs } from 'node:fs/promises'
import type { Check } from './check.ts'

/** What `postgres` needs of a `Pool` from `pg`. */
export interface PostgresPool {
  connect(): Promise<PostgresClient>
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
  readonly options: { max?: number }
  on(event: 'error', listener: () => void): unknown
}

/** What `postgres` needs of a client of that pool. */
export interface PostgresClient {
  query(text: string): Promise<unknown>
  /** `true` closes the connection instead of giving it back. */
  release(destroy?: boolean): void
  on(event: 'error', listener: () => void): unknown
  off(event: 'error', listener: () => void): unknown
}

/** What `redis` needs of a client, of `redis` or of `ioredis`. */
export interface RedisClient {
  ping(): Promise<unknown>
  /** `false` in `redis` while there is no connection. */
  readonly isReady?: boolean
  /** In `ioredis`. */
  readonly status?: string
  on(event: 'error', listener: () => void): unknown
}

export interface DiskOptions {
  /** Less free space than this is a failure, in bytes. @default 100000000 */
  minFreeBytes?: number
}

// Without a listener, a connection that breaks ends the process; telling that it did is what the check is for.
const ignore = (): void => undefined

/**
 * Asks PostgreSQL for an answer over a connection of the pool. Details: `utilization`, connections in use of those that
 * the pool may open, and `waiting`, requests for one. A query that does not answer in time takes its connection with it.
 */
export function postgres(pool: PostgresPool): Check {
  pool.on('error', ignore)
  let pending: { client: Promise<PostgresClient>; taker: AbortSignal } | undefined

  // While the pool gives none, one request waits and not one a run. The newest run gets what comes.
  async function acquire(signal: AbortSignal): Promise<PostgresClient> {
    pending ??= {
      client: pool.connect().finally(() => {
        pending = undefined
      }),
      taker: signal
    }
    const mine = pending
    mine.taker = signal
    const client = await mine.client
    // Another check of the same function, in another app, has it.
    if (mine.taker !== signal) {
      signal.throwIfAborted()
      return await acquire(signal)
    }
    if (signal.aborted) client.release()
    signal.throwIfAborted()
    return client
  }

  return async (signal) => {
    const { totalCount, idleCount, waitingCount, options } = pool
    const utilization = `${totalCount - idleCount}/${options.max ?? 10}`
    const client = await acquire(signal)
    client.on('error', ignore)
    const giveUp = (): void => client.release(true)
    signal.addEventListener('abort', giveUp, { once: true })
    let answered = false
    try {
      await client.query('SELECT 1')
      answered = true
    } finally {
      client.off('error', ignore)
      signal.removeEventListener('abort', giveUp)
      if (!signal.aborted) client.release(!answered)
    }
    return { utilization, waiting: waitingCount }
  }
}

/** Sends Redis a PING. */
export function redis(client: RedisClient): Check {
  client.on('error', ignore)
  const ping = single(() => client.ping())
  return async () => {
    const { isReady, status } = client
    // Clients keep a command until they are connected again, which may be never. `wait` connects with the first one.
    if (isReady === false || (status !== undefined && status !== 'ready' && status !== 'wait')) {
      throw new Error('not connected')
    }
    await ping()
  }
}

/** Healthy when the URL answers with 2xx. Details: `status`. */
export function http(url: string | URL): Check {
  const target = new URL(url)
  return async (signal) => {
    const { ok, status, body } = await fetch(target, { signal, redirect: 'manual' })
    await body?.cancel()
    if (!ok) throw new Error(`answered ${status}`)
    return { status }
  }
}

/** Healthy while the file system at `path` has room. Details: `free_bytes` and `utilization`. */
export function disk(path: string, { minFreeBytes = 100_000_000 }: DiskOptions = {}): Check {
  // A network file system that hangs holds a thread of the pool for each call.
  const measure = single(() => statfs(path))
  return async () => {
    const { bsize, blocks, bavail } = await measure()
    const free = bavail * bsize
    if (free < minFreeBytes) throw new Error(`${free} bytes are free, fewer than ${minFreeBytes}`)
    return { free_bytes: free, utilization: `${Math.round((1 - bavail / Math.max(blocks, 1)) * 100)}%` }
  }
}

/** Shares the call under way with those who ask for another. */
function single<Result>(call: () => Promise<Result>): () => Promise<Result> {
  let pending: Promise<Result> | undefined
  return () => {
    pending ??= call().finally(() => {
      pending = undefined
    })
    return pending
  }
}
