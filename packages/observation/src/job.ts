import type { Context, SpanContext } from '@opentelemetry/api'
import type { FastifyBaseLogger } from 'fastify'
import { type AddedFields, type FieldRules, Fields, type KeptValue, NO_FIELDS } from './fields.ts'
import type { Job, JobOptions, JobOrigin, JobOutcome } from './work.ts'

/** What a job runs in. */
interface Surroundings {
  readonly context: Context | undefined
  readonly correlationId: string | undefined
}

/** The data of one attempt of a job, as the parts see and complete it. */
export class JobObservation implements Job {
  readonly job: string
  readonly attempt: number | undefined
  readonly attempts: number | undefined
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
  onLine: ((level: string, message: string | undefined) => void) | undefined
  error: unknown
  /** The application has called `fail`. */
  failed = false
  outcome: JobOutcome | undefined

  private added: Fields | undefined
  private readonly rules: FieldRules

  constructor(
    job: string,
    { attributes, links, parent, attempt, attempts, correlationId }: JobOptions,
    outer: Surroundings | undefined,
    rules: FieldRules
  ) {
    this.job = job
    this.attempt = attempt
    this.attempts = attempts
    // Of what came through a queue, which may be anything.
    this.origins = Array.isArray(links) ? links.filter((link) => link !== undefined) : []
    this.parent = parent
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
    return this.added ?? NO_FIELDS
  }

  add(fields: AddedFields): void {
    if (this.outcome) {
      this.rules.dropped.add('ended')
      return
    }
    this.added ??= new Fields()
    this.added.addAll(fields, this.rules)
  }

  fail(error: unknown): void {
    if (this.outcome) return
    this.failed = true
    this.error = error
  }
}
