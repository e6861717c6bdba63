import type { Sample, Series } from '@fastify-observability/observation'

/** The state of a connection pool. */
export interface PoolState {
  /** Open connections, idle ones included. */
  size: number
  idle: number
  /** Requests that wait for a connection. @default 0 */
  waiting?: number
}

/** The connection pools of an app as one series; a pool that throws costs its own samples only. */
export function createPools(
  publish: (series: Series<'state' | 'pool'>) => void,
  failed: (pool: string, error: unknown) => void
) {
  const pools = new Map<string, () => PoolState>()

  function samples(pool: string, read: () => PoolState): Sample<'state' | 'pool'>[] {
    try {
      const { size, idle, waiting = 0 } = read()
      const values = { idle, used: size - idle, waiting }
      return Object.entries(values).flatMap(([state, value]) =>
        Number.isFinite(value) ? [[{ state, pool }, value] as const] : []
      )
    } catch (error) {
      failed(pool, error)
      return []
    }
  }

  /** Adds a pool; the same name again replaces the first. */
  return (name: string, read: () => PoolState): void => {
    if (pools.size === 0)
      publish({
        name: 'db_client_connection_count',
        help: 'Connections of a pool by state; waiting are the requests for one.',
        type: 'gauge',
        labelNames: ['state', 'pool'],
        collect: () => [...pools].flatMap(([pool, read]) => samples(pool, read))
      })
    pools.set(name, read)
  }
}
