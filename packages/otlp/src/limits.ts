import type { Destination, Warn } from './destination.ts'
import { numberFrom } from './environment.ts'
import type { QueueLimits } from './queue.ts'

/** What the variables of a batch processor are called. */
export interface BatchVariables {
  queueSize: string
  batchSize: string
  delayMs: string
  totalMs: string
}

const MAX_QUEUE_SIZE = 2_048
const MAX_BATCH_SIZE = 512
const TOTAL_MS = 30_000
const MAX_ATTRIBUTES = 128
// Node's timers treat delays above 2^31-1 ms as 1 ms.
export const MAX_TIMER_MS = 2 ** 31 - 1

/** @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#batch-span-processor */
export function limitsFrom(variables: BatchVariables, delayMs: number, warn: Warn): QueueLimits {
  const maxQueueSize = numberFrom([variables.queueSize], 1, warn) ?? MAX_QUEUE_SIZE
  return {
    maxQueueSize,
    maxBatchSize: Math.min(numberFrom([variables.batchSize], 1, warn) ?? MAX_BATCH_SIZE, maxQueueSize),
    delayMs: Math.min(numberFrom([variables.delayMs], 0, warn) ?? delayMs, MAX_TIMER_MS)
  }
}

/** How many attributes a record has at most, and how many characters each text of them. */
export interface RecordLimits {
  attributes: number
  characters: number
}

/** @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#logrecord-limits */
export function recordLimitsFrom(warn: Warn): RecordLimits {
  const counts = ['OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT', 'OTEL_ATTRIBUTE_COUNT_LIMIT']
  const lengths = ['OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT']
  return {
    attributes: numberFrom(counts, 0, warn) ?? MAX_ATTRIBUTES,
    characters: numberFrom(lengths, 0, warn) ?? Number.POSITIVE_INFINITY
  }
}

/** For a batch, with all attempts. One attempt fits in, unless the variable wants it otherwise. */
export function totalMsFrom(variables: BatchVariables, { timeoutMs }: Destination, warn: Warn): number {
  return numberFrom([variables.totalMs], 1, warn) ?? Math.max(TOTAL_MS, timeoutMs)
}
