import type { Sample, Series } from '@fastify-observability/observation'
import { documented } from '@fastify-observability/observation/internal'
import { synchronous } from './callback.ts'

/** The state of a connection pool. */
export interface PoolState {
  /** Open connections, idle ones included. */
  size: number
  /** Open connections that nobody uses. */
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
      const { size, idle, waiting = 0 } = stateOf(read())
      const values = Object.entries({ idle, used: size - idle, waiting })
      if (!values.every(([, value]) => Number.isFinite(value)))
        throw new TypeError('size, idle and waiting must be numbers')
      return values.map(([state, value]) => [{ state, pool }, value])
    } catch (error) {
      failed(pool, error)
      return []
    }
  }

  /** Adds a pool; the same name again replaces the first. */
  return (name: string, read: () => PoolState): void => {
    if (typeof read !== 'function') {
      const words = `observePool: the state of "${name}" must be a function`
      throw documented(new TypeError(`@fastify-observability/metrics: ${words}`), 'wrong-options')
    }
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

function stateOf(state: PoolState): PoolState {
  synchronous('the function', state)
  return state
}
