import type { Attributes, Context, SpanContext } from '@opentelemetry/api'
import type { FastifyBaseLogger } from 'fastify'
import { type AddedFields, type FieldRules, KeptFields, type KeptValue, NO_FIELDS } from './fields.ts'
import type { LineReceiver } from './request-observation.ts'
import type { Job, JobOptions, JobOrigin, JobOutcome } from './work.ts'

/** What a job runs in. */
export interface Surroundings {
  readonly context: Context | undefined
  readonly correlationId: string | undefined
  readonly outer?: Surroundings | undefined
}

/** What a library's telemetry says of a job beside its options. */
export interface JobSource {
  /** @default the job's name */
  readonly spanName: string
  /** Of the span alone. */
  readonly attributes: Attributes
  /** What the span begins a trace in, such as baggage. */
  readonly context: Context
}

const MAX_NAME = 128

/** The data of one attempt of a job, as the parts see and complete it. */
export class JobObservation implements Job {
  /** Known when the job ends; a library may give it after the start. */
  job: string
  /** Known when the job ends; a library may give it after the start. */
  attempt: number | undefined
  readonly attempts: number | undefined
  /** Those of the job's app, `undefined` without one. */
  readonly jobs: object | undefined
  readonly source: JobSource | undefined
  readonly request = undefined
  readonly origins: readonly JobOrigin[]
  readonly parent: JobOrigin | undefined
  /** The request or job that the job runs in, while that goes on. */
  readonly outer: Surroundings | undefined
  /** `performance.now()` at the start. */
  readonly startedAt: number = performance.now()

  /** Written by request-id. */
  requestId: string | undefined
  correlationId: string | undefined
  /** Written by tracing. */
  spanContext: SpanContext | undefined
  /** Written by tracing. */
  context: Context | undefined
  /** Written by logging. */
  log: FastifyBaseLogger | undefined
  /** Written by sentry. */
  sentryEventId: string | undefined
  /** Written by sentry, called by logging. */
  onLine: LineReceiver | undefined
  /** What Sentry is to know of the job. Written by sentry. */
  sentryMemory: object | undefined
  /** `performance.now()` when its code had ended, where a library has gone on since. */
  settledAt: number | undefined
  /** The calls of databases made for it. Written by tracing. */
  databaseCalls = 0
  /** Milliseconds that those took which have ended, one added to the other. Written by tracing. */
  databaseMs = 0
  error: unknown
  /** The application has called `fail`. */
  failed = false
  outcome: JobOutcome | undefined

  private added: KeptFields | undefined
  private readonly rules: FieldRules

  constructor(
    name: string,
    options: JobOptions | undefined,
    outer: Surroundings | undefined,
    { jobs, rules, source }: { jobs?: object; rules: FieldRules; source?: JobSource }
  ) {
    // Of JavaScript, or of what came through a queue: any of these may be anything.
    const { attributes, links, parent, attempt, attempts, correlationId } = options ?? {}
    this.job = jobName(name)
    this.attempt = countOf(attempt)
    this.attempts = countOf(attempts)
    this.origins = Array.isArray(links) ? links.filter((link) => link !== undefined) : []
    this.parent = parent
    this.jobs = jobs
    this.source = source
    this.outer = outer
    this.context = outer?.context
    this.correlationId = correlationId ?? outer?.correlationId
    this.rules = rules
    if (attributes !== undefined) this.add(attributes)
  }

  /** As the scope of the code that does the job. */
  get observation(): this {
    return this
  }

  get fields(): ReadonlyMap<string, KeptValue> {
    return this.added?.byName ?? NO_FIELDS
  }

  add(fields: AddedFields): void {
    if (this.outcome) {
      this.rules.dropped.add('ended')
      return
    }
    this.added ??= new KeptFields()
    this.added.addAll(fields, this.rules)
  }

  fail(error: unknown): void {
    if (this.outcome) return
    this.failed = true
    this.error = error
  }
}

/** A name of the length that a label may have. */
export function jobName(name: unknown): string {
  return typeof name === 'string' && name !== '' ? name.slice(0, MAX_NAME) : 'unnamed'
}

function countOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : undefined
}
