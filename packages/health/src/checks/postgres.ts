import type { Check } from '../check.ts'
import { ignoreError } from './ignored-error.ts'

/** What `postgres` needs of a `Pool` from `pg`. */
export interface PostgresPool {
  /** Lends a client, once one is free. */
  connect(): Promise<PostgresClient>
  /** Open connections. */
  readonly totalCount: number
  /** Open connections that nobody uses. */
  readonly idleCount: number
  /** Requests for a connection that wait. */
  readonly waitingCount: number
  /** Those that it was made with. */
  readonly options: {
    /** Connections at most. @default 10 */
    max?: number
  }
  /** Of idle clients: without a listener their errors end the process. */
  on(event: 'error', listener: () => void): unknown
}

/** What `postgres` needs of a client of that pool. */
export interface PostgresClient {
  /** Resolves with the answer, and rejects when there is none. */
  query(text: string): Promise<unknown>
  /** `true` closes the connection instead of returning it to the pool. */
  release(destroy?: boolean): void
  /** Of this client, while it is lent. */
  on(event: 'error', listener: () => void): unknown
  /** Removes that listener. */
  off(event: 'error', listener: () => void): unknown
}

/**
 * Healthy when PostgreSQL answers a query over a connection of the pool. Details: `utilization`, connections in use of the
 * pool's maximum, and `waiting`, requests for a connection. A query that does not answer in time has its connection closed.
 */
export function postgres(pool: PostgresPool): Check {
  pool.on('error', ignoreError)
  const connect = latestConnection(pool)
  return async (signal) => {
    const { totalCount, idleCount, waitingCount, options } = pool
    const utilization = `${totalCount - idleCount}/${options.max ?? 10}`
    await answersQuery(await connect(signal), signal)
    return { utilization, waiting: waitingCount }
  }
}

async function answersQuery(client: PostgresClient, signal: AbortSignal): Promise<void> {
  client.on('error', ignoreError)
  const destroy = (): void => client.release(true)
  signal.addEventListener('abort', destroy, { once: true })
  let answered = false
  try {
    await client.query('SELECT 1')
    answered = true
  } finally {
    client.off('error', ignoreError)
    signal.removeEventListener('abort', destroy)
    if (!signal.aborted) client.release(!answered)
  }
}

/**
 * Makes the request for a connection. While the pool has none, one request waits instead of one for each run, and the
 * newest run gets the connection.
 */
function latestConnection(pool: PostgresPool): (signal: AbortSignal) => Promise<PostgresClient> {
  let pending: { client: Promise<PostgresClient>; newest: AbortSignal } | undefined

  return async function connect(signal): Promise<PostgresClient> {
    pending ??= {
      client: pool.connect().finally(() => {
        pending = undefined
      }),
      newest: signal
    }
    const request = pending
    request.newest = signal
    const client = await request.client
    // A check of the same function in another app has taken the connection.
    if (request.newest !== signal) {
      signal.throwIfAborted()
      return await connect(signal)
    }
    if (signal.aborted) client.release()
    signal.throwIfAborted()
    return client
  }
}
