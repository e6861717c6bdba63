import type { Check } from '../check.ts'
import { ignoreError } from './ignored-error.ts'
import { shareCall } from './shared-call.ts'

/** What `redis` needs of a client, of `redis` or of `ioredis`. */
export interface RedisClient {
  /** Resolves when Redis has answered. */
  ping(): Promise<unknown>
  /** `false` in `redis` while there is no connection. */
  readonly isReady?: boolean
  /** In `ioredis`. */
  readonly status?: string
  /** Without a listener the client's errors end the process. */
  on(event: 'error', listener: () => void): unknown
}

/** Healthy when Redis answers a PING. */
export function redis(client: RedisClient): Check {
  client.on('error', ignoreError)
  const ping = shareCall(() => client.ping())
  return async () => {
    const { isReady, status } = client
    // Clients queue a command until they are connected again, which may be never. `wait` connects with the first one.
    if (isReady === false || (status !== undefined && status !== 'ready' && status !== 'wait')) {
      throw new Error('not connected')
    }
    await ping()
  }
}
