import type { Span } from '@opentelemetry/api'
import { BATCH_SIZE } from '../instrumentation/database-calls.ts'
import type { Calls, Description, Message } from './calls.ts'
import { listOf, redisCommand, redisServer } from './redis.ts'

/** A list of commands that are sent together. */
interface Batch {
  mode: unknown
  commands: { name: string; span: Span }[]
}

const PACKAGE = '@redis/client'

/** @see https://github.com/redis/node-redis/blob/master/docs/diagnostics-channel.md */
export function traceNodeRedis({ begin, track, endWithCall, on, isInstrumented }: Calls): void {
  // All commands of a batch are published before it goes on.
  let batch: Batch | undefined

  function nameOf(message: Message): string {
    return String(listOf(message.args)[0])
  }
  function command(message: Message): Description {
    const name = nameOf(message)
    return { name: `redis-${name}`, attributes: redisCommand(message, name, listOf(message.args).length - 1, name) }
  }
  function transaction(message: Message): Description {
    const attributes = { ...redisCommand(message, 'MULTI', 0, 'MULTI'), [BATCH_SIZE]: Number(message.batchSize) }
    return { name: 'redis-MULTI', attributes }
  }

  track('node-redis:connect', (message) => ({ name: 'redis-connect', attributes: redisServer(message) }), true)
  on('node-redis:command', 'start', (message) => {
    // An instrumentation makes the spans of a batch when its commands are queued.
    if (batch && isInstrumented(PACKAGE)) return
    const span = begin(message, command)
    if (span) batch?.commands.push({ name: nameOf(message), span })
  })
  endWithCall('node-redis:command')
  on('node-redis:batch', 'start', (message) => {
    batch = { mode: message.batchMode, commands: [] }
    // The commands of a transaction are not published.
    if (message.batchMode === 'MULTI' && !isInstrumented(PACKAGE)) begin(message, transaction)
  })
  on('node-redis:batch', 'end', () => {
    const { mode, commands = [] } = batch ?? {}
    batch = undefined
    const names = new Set(commands.map(({ name }) => name))
    const operation = names.size === 1 ? [mode, ...names].join(' ') : String(mode)
    for (const { span } of commands) span.setAttribute('db.operation.name', operation)
  })
  endWithCall('node-redis:batch')
}
