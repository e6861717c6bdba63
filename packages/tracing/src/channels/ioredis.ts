import type { Calls } from './calls.ts'
import { listOf, redisCommand, redisServer } from './redis.ts'

/** @see https://github.com/redis/ioredis#diagnostics-channel */
export function traceIoredis({ begin, track, endWithCall, on, bind }: Calls): void {
  // The commands of a transaction are published before it goes on; those of a pipeline are not told from others.
  let batchMode: unknown
  on('ioredis:batch', 'start', (message) => {
    batchMode = message.batchMode
  })
  on('ioredis:batch', 'end', () => {
    batchMode = undefined
  })
  track('ioredis:command', (message) => {
    const name = String(message.command)
    const isPart = batchMode !== undefined && name !== 'multi' && name !== 'exec'
    const operation = isPart ? `${batchMode} ${name}` : name
    return { name, attributes: redisCommand(message, name, listOf(message.args).length, operation) }
  })
  // Commands that wait for the connection are sent in the scope that has opened it, which may be another request's.
  bind('ioredis:connect', 'start', (message) => {
    begin(message, () => ({ name: 'connect', attributes: { ...redisServer(message), 'db.query.text': 'connect' } }))
    return undefined
  })
  endWithCall('ioredis:connect')
}
