import { type CallsOptions, createCalls } from './calls.ts'
import { traceIoredis } from './ioredis.ts'
import { traceMysql2 } from './mysql2.ts'
import { traceNodeRedis } from './node-redis.ts'

/**
 * Makes client spans of what ioredis, redis and mysql2 publish, whenever and however they are loaded: those that upstream's
 * instrumentations make, which patch what Node loads, and none of a call that one of these has made a span of.
 * @returns what ends it
 */
export function openChannels(options: CallsOptions): () => void {
  const calls = createCalls(options)
  for (const trace of [traceIoredis, traceNodeRedis, traceMysql2]) trace(calls)
  return calls.close
}
