import type { Attributes } from '@opentelemetry/api'
import { SYSTEM } from '../instrumentation/database-calls.ts'
import { type Message, serverOf } from './calls.ts'

export function redisServer(message: Message): Attributes {
  return { [SYSTEM]: 'redis', ...serverOf(message) }
}

/** What upstream's instrumentations of ioredis and redis say of a command, whose values are left out. */
export function redisCommand(message: Message, command: string, argumentCount: number, operation: string): Attributes {
  return {
    ...redisServer(message),
    'db.operation.name': operation,
    'db.query.text': argumentCount > 0 ? `${command} ?` : command
  }
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
