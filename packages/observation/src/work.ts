import type { SpanContext } from '@opentelemetry/api'
import type { AddedFields, KeptValue } from './fields.ts'

/** What requests and jobs have in common. */
export interface Work {
  /** A job's own, made by request-id; a request's is `undefined` until request-id, or Fastify, has decided it. */
  readonly requestId: string | undefined
  /** `undefined` without request-id. */
  readonly correlationId: string | undefined
  /** Its span; `undefined` where it is not traced. */
  readonly spanContext: SpanContext | undefined
  /** The fields that were added, as all signals have them. */
  readonly fields: ReadonlyMap<string, KeptValue>
  /**
   * Adds fields to its canonical line, its span and its error event: the same value in all of them, without secrets; the
   * last one of a name wins. 64 fields and 4,096 characters are kept; what is beyond, comes after the end, has a name of
   * the suite's own or cannot be kept is counted in `observability_fields_dropped_total`. Never throws.
   */
  add(fields: AddedFields): void
  /** Makes this the error of the work, which has then failed. */
  fail(error: unknown): void
}

/** One attempt of a job, from the call of `observe` until its function has settled. */
export interface Job extends Work {
  /** The name given to `observe`. */
  readonly job: string
  /** Counted from 1; `undefined` where the options do not say it. */
  readonly attempt: number | undefined
  /** Of a request only. It is here so that code may ask either. */
  readonly request: undefined
  /** Of a request only. It is here so that code may ask either. */
  readonly reply?: undefined
  /** Of a request only. It is here so that code may ask either. */
  readonly method?: undefined
  /** Of a request only. It is here so that code may ask either. */
  readonly route?: undefined
  /** Of a request only. It is here so that code may ask either. */
  readonly path?: undefined
  /** Of a request only. It is here so that code may ask either. */
  readonly clientAddress?: undefined
  /** `undefined` until the job has ended. */
  readonly outcome: JobOutcome | undefined
}

/** What has caused a job: the `spanContext` of an observation, which JSON keeps, or the value of a `traceparent` header. */
export type JobOrigin = SpanContext | string

/** What is known of a job before it runs. */
export interface JobOptions {
  /** Fields of the job's canonical line, span and event, as `add` takes them. */
  attributes?: AddedFields | undefined
  /** What has enqueued the job, in another trace. The job begins a trace of its own, unless it has a `parent`. */
  links?: readonly (JobOrigin | undefined)[] | undefined
  /** The span to be the child of. @default the active one; none for a job with links */
  parent?: JobOrigin | undefined
  /** Counted from 1. @default none */
  attempt?: number | undefined
  /** How many there are at most: only the last failure is an error, and an event. @default `attempt`, so that each is the last */
  attempts?: number | undefined
  /** @default that of the surrounding work, or the job's own id */
  correlationId?: string | undefined
}

/** How a job ended, computed once for all observers. */
export interface JobOutcome {
  /** `failed`: its function threw, or something was given to `fail`. */
  result: 'completed' | 'failed'
  /** What was thrown or given to `fail`, `undefined` if nothing was. */
  error: unknown
  /** The error's code or class, `SHUTDOWN` for a job that the shutdown did not wait for; `undefined` for a job that completed. */
  errorType: string | undefined
  /** No further attempt follows. */
  isLast: boolean
  /** Monotonic, in milliseconds. */
  durationMs: number
}
