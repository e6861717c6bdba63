import type { Family, Sample } from './exposition.ts'

/** What a connection pool says of itself. */
export interface PoolState {
  /** Connections that are open, idle ones included. */
  size: number
  idle: number
  /** Requests for a connection that none is free for. @default 0 */
  waiting?: number
}

/** The pools of an app as one metric; one that throws costs its own series only. */
export function createPools(failed: (pool: string, error: unknown) => void) {
  const pools = new Map<string, () => PoolState>()

  function samples(pool: string, state: () => PoolState): Sample[] {
    try {
      const { size, idle, waiting = 0 } = state()
      const values = { idle, used: size - idle, waiting }
      return Object.entries(values).flatMap(([state, value]) =>
        Number.isFinite(value) ? [{ labels: { state, pool }, value }] : []
      )
    } catch (error) {
      failed(pool, error)
      return []
    }
  }

  return {
    pools,
    read: (): Family => ({
      name: 'db_client_connection_count',
      help: 'Connections of a pool by state, and the requests that wait for one.',
      type: 'gauge',
      aggregator: 'sum',
      values: [...pools].flatMap(([pool, state]) => samples(pool, state))
    })
  }
}
