import {
  type Attributes,
  type Context,
  context,
  defaultTextMapGetter,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace
} from '@opentelemetry/api'
import type { FastifyInstance } from 'fastify'
import { documented } from './docs.ts'
import { type JobObservation, jobName } from './job.ts'
import { currentJobs, type Jobs } from './jobs.ts'
import { registryOf } from './registry.ts'
import { currentScope, runOutside } from './scope.ts'
import { errorName } from './values/error-name.ts'
import { isRecord } from './values/record.ts'
import { thrownTexts } from './values/thrown.ts'

/** What BullMQ takes as `telemetry`, without its types. https://docs.bullmq.io/guide/telemetry */
export interface BullmqTelemetry {
  /** Makes what observes BullMQ's operations. */
  readonly tracer: {
    /**
     * Begins an operation.
     * @param name the operation and the queue, as BullMQ puts them
     * @param options with the kind, as OpenTelemetry's `SpanKind` numbers it @default INTERNAL
     * @param context what the operation is part of @default nothing
     */
    startSpan(name: string, options?: { kind: number }, context?: BullmqContext): BullmqSpan
  }
  /** Carries a context along calls, and with a job through the queue. */
  readonly contextManager: {
    /** Calls the function in the context. Returns and throws what it does. */
    with<Result>(context: BullmqContext, fn: () => Result): Result
    /** Stands for the context of the calling code: what is called in it stays where it is. */
    active(): BullmqContext
    /** Outside of every request and job. */
    root(): BullmqContext
    /** What BullMQ stores with a job that is enqueued in the context; empty for nothing. */
    getMetadata(context: BullmqContext): string
    /** The context of a job, by what was stored with it. */
    fromMetadata(active: BullmqContext, metadata: string): BullmqContext
  }
}

/** What BullMQ runs its code in. */
export interface BullmqContext {
  /** What a job carries through the queue; empty for nothing. */
  readonly metadata: string
  /** Calls the function in the context. Returns and throws what it does. */
  enter?<Result>(fn: () => Result): Result
}

/** What BullMQ says while one of its operations goes on. */
export interface BullmqSpan {
  /** A context whose calls are part of this operation. */
  setSpanOnContext(context: BullmqContext): BullmqContext
  /** Notes what is known of the operation, such as queue, job and its id. */
  setAttribute(name: string, value: Attributes[string]): void
  /** Notes several of these. */
  setAttributes(attributes: Attributes): void
  /** Notes what happened while the operation went on. */
  addEvent(name: string, attributes?: Attributes): void
  /** Notes the error that the operation has failed with. */
  recordException(exception: unknown): void
  /** The operation has ended. */
  end(): void
}

/** A job that a worker processes. */
interface Processing {
  /** BullMQ has begun to store how the attempt of this job, or of another that the processor handles, has ended. */
  settle(operation: string, queue: unknown, id: unknown): void
}

const NAME = '@fastify-observability/observation'
const UNREGISTERED = 'bullmqTelemetry(app) needs the suite to be registered on the app first'
const QUEUE = 'bullmq.queue.name'
const OPERATION = 'bullmq.queue.operation'
const JOB_NAME = 'bullmq.job.name'
const JOB_ID = 'bullmq.job.id'
const CORRELATION = 'x-correlation-id'
/** BullMQ's names by those of https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ */
const CONVENTIONS: Readonly<Record<string, string>> = {
  [QUEUE]: 'messaging.destination.name',
  [OPERATION]: 'messaging.operation.name',
  [JOB_ID]: 'messaging.message.id',
  'bullmq.job.bulk.count': 'messaging.batch.message_count'
}
/** What a worker does for itself, in loops and timers that outlive the work which has begun them. */
const LOOPS = ['getNextJob', 'extendLocks', 'startStalledCheckTimer', 'moveStalledJobsToWait']
const FAILING = ['retry', 'delay', 'fail']
const OUTSIDE: BullmqContext = { metadata: '', enter: (fn) => runOutside(fn) }

const processings = new WeakMap<object, Processing>()

/**
 * The `telemetry` of BullMQ's queues, workers and flow producers: what is enqueued is a PRODUCER span, and what a worker
 * processes is a job as `observe` runs one, linked to what has enqueued it.
 * @param app whose jobs they are @default the app that was registered first of those that are open
 * @throws Error when the app has not registered the suite
 */
export function bullmqTelemetry(app?: FastifyInstance): BullmqTelemetry {
  const own = app && registryOf(app)?.jobs
  if (app && !own) throw documented(new Error(`${NAME}: ${UNREGISTERED}`), 'registered-late-or-twice')
  return {
    tracer: {
      startSpan(name, { kind } = { kind: SpanKind.INTERNAL }, { metadata } = OUTSIDE) {
        if (kind === SpanKind.PRODUCER) return enqueue(name)
        if (kind === SpanKind.CONSUMER) return consume(name, metadata, own ?? currentJobs())
        return operate(name)
      }
    },
    contextManager: {
      with: (context, fn) => (context.enter ? context.enter(fn) : fn()),
      active: () => ({ metadata: '' }),
      root: () => OUTSIDE,
      getMetadata: ({ metadata }) => metadata,
      fromMetadata: (_active, metadata) => ({ metadata })
    }
  }
}

/** Jobs are given to a queue: a span, whose context they carry. */
function enqueue(name: string): BullmqSpan {
  const span = trace.getTracer(NAME).startSpan(name, {
    kind: SpanKind.PRODUCER,
    // The nodes of a flow are made one by one, and then sent together.
    attributes: {
      'messaging.system': 'bullmq',
      'messaging.operation.type': /^addNode\b/.test(name) ? 'create' : 'send'
    }
  })
  const active = trace.setSpan(context.active(), span)
  let queue = ''

  function setAttributes(attributes: Attributes): void {
    const { [QUEUE]: queueName, [OPERATION]: operation, [JOB_NAME]: job, ...others } = attributes
    if (queueName !== undefined) queue = String(queueName)
    // The name of a job may be of any number.
    if (operation !== undefined) span.updateName(`${operation} ${queue}`.trimEnd())
    if (job !== undefined) span.setAttribute('job.name', jobName(`${queue}.${job}`))
    span.setAttributes(conventional({ ...others, [QUEUE]: queueName || undefined, [OPERATION]: operation }))
  }

  return {
    setSpanOnContext: () => ({ metadata: metadataOf(active), enter: (fn) => context.with(active, fn) }),
    setAttribute: (attribute, value) => setAttributes({ [attribute]: value }),
    setAttributes,
    addEvent: (event, attributes) => void span.addEvent(event, attributes),
    recordException(error) {
      span.recordException(thrownTexts(error))
      span.setAttribute('error.type', errorName(error) || 'Error')
      span.setStatus({ code: SpanStatusCode.ERROR })
    },
    end: () => span.end()
  }
}

/** A worker processes a job, and reports on the span how that has ended. */
function consume(spanName: string, metadata: string, jobs: Jobs | undefined): BullmqSpan {
  const { origin, base, correlationId } = originOf(metadata)
  let queue: Attributes[string]
  let id: Attributes[string]
  let operation: string | undefined
  let reason: unknown
  let isStored = false
  let job: JobObservation | undefined

  function enter<Result>(fn: () => Result): Result {
    if (!jobs) return fn()
    const attributes = {
      'messaging.system': 'bullmq',
      'messaging.destination.name': String(queue),
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process'
    }
    const options = { links: [origin], correlationId, attributes: { 'messaging.destination.name': String(queue) } }
    const created = jobs.create(String(queue), options, { spanName, attributes, context: base })
    job = created
    processings.set(created, { settle })
    let result: { value: Result } | undefined
    jobs.start(created, () => {
      result = { value: fn() }
    })
    return result ? result.value : fn()
  }

  function settle(next: string, ofQueue: unknown, ofId: unknown): void {
    if (ofQueue !== queue || ofId !== id) return
    operation = next
    if (job) job.settledAt ??= performance.now()
  }

  function setAttributes(attributes: Attributes): void {
    const { [QUEUE]: queueName, [JOB_NAME]: name, [JOB_ID]: jobId, 'bullmq.job.attempts.made': attempt } = attributes
    queue ??= queueName
    id ??= jobId
    if (!job) return
    if (name !== undefined) job.job = jobName(`${queue}.${name}`)
    if (jobId !== undefined) job.add({ 'messaging.message.id': String(jobId) })
    if (typeof attempt === 'number') job.attempt = attempt
  }

  return {
    setSpanOnContext: () => ({ metadata: '', enter }),
    setAttribute: (attribute, value) => setAttributes({ [attribute]: value }),
    setAttributes,
    addEvent(event, attributes = {}) {
      if (event !== 'job failed') return
      reason = attributes['bullmq.job.failed.reason'] ?? ''
      isStored = true
    },
    recordException(exception) {
      // Of BullMQ's own, such as a lock that was lost: a text where it goes on, an error where it does not.
      reason ??= exception
      if (typeof exception !== 'string') operation = 'fail'
    },
    end() {
      if (!jobs || !job) return
      const hasFailed = operation !== undefined && FAILING.includes(operation)
      if (hasFailed && !job.failed) job.fail(reason instanceof Error ? reason : errorOf(reason))
      // What could not be stored is processed again, as a stalled job.
      jobs.end(job, !hasFailed || (operation === 'fail' && isStored))
    }
  }
}

/** Anything else that BullMQ does: no span, and it may be how an attempt ends. */
function operate(name: string): BullmqSpan {
  const [operation = ''] = name.split(' ', 1)
  let queue: unknown

  function setAttributes({ [QUEUE]: queueName, [JOB_ID]: id }: Attributes): void {
    queue ??= queueName
    if (id === undefined || (operation !== 'complete' && !FAILING.includes(operation))) return
    const current = currentScope()?.observation
    if (current) processings.get(current)?.settle(operation, queue, id)
  }

  return {
    // Of the metadata of a job that is tried again nothing is written, so that it stays as it is.
    setSpanOnContext: (context) => (LOOPS.includes(operation) ? OUTSIDE : { ...context, metadata: '' }),
    setAttribute: (attribute, value) => setAttributes({ [attribute]: value }),
    setAttributes,
    addEvent: () => undefined,
    recordException: () => undefined,
    end: () => undefined
  }
}

function conventional(attributes: Attributes): Attributes {
  const known = Object.entries(attributes).filter(([, value]) => value !== undefined)
  return Object.fromEntries(known.map(([name, value]) => [CONVENTIONS[name] ?? name, value]))
}

/** As bullmq-otel writes it, with the correlation id. */
function metadataOf(active: Context): string {
  const carrier: Record<string, string> = {}
  propagation.inject(active, carrier)
  const correlationId = currentScope()?.observation?.correlationId
  if (correlationId !== undefined) carrier[CORRELATION] = correlationId
  return Object.keys(carrier).length > 0 ? JSON.stringify(carrier) : ''
}

/** What has enqueued a job, by its metadata, which may be anything. */
function originOf(metadata: string): {
  origin: ReturnType<typeof trace.getSpanContext>
  base: Context
  correlationId: string | undefined
} {
  const carrier = parsed(metadata)
  const extracted = propagation.extract(ROOT_CONTEXT, carrier, defaultTextMapGetter)
  const { [CORRELATION]: correlationId } = carrier
  return { origin: trace.getSpanContext(extracted), base: trace.deleteSpan(extracted), correlationId }
}

function parsed(metadata: string): Record<string, string> {
  try {
    const value: unknown = JSON.parse(metadata)
    if (!isRecord(value)) return {}
    return Object.fromEntries(
      Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
    )
  } catch {
    return {}
  }
}

/** BullMQ tells the message only. */
function errorOf(reason: unknown): Error {
  const error = new Error(typeof reason === 'string' ? reason : 'failed')
  error.stack = String(error)
  return error
}
