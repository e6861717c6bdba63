import { randomFillSync } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { KeptFields, RequestObservation } from '@fastify-observability/observation/internal'
import type { EncodableSpan } from '@fastify-observability/otlp'
import {
  type Attributes,
  type AttributeValue,
  type Context,
  type Exception,
  type HrTime,
  INVALID_SPAN_CONTEXT,
  type Link,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
  type TimeInput,
  TraceFlags,
  trace
} from '@opentelemetry/api'
import {
  cleanAttributes,
  cleanSimpleAttributes,
  hrTimeDuration,
  hrTimeToMilliseconds,
  isTimeInput,
  isTracingSuppressed,
  timeInputToHrTime
} from '@opentelemetry/core'
import type { Resource } from '@opentelemetry/resources'
import { type ReadableSpan, type Sampler, SamplingDecision, type SpanProcessor } from '@opentelemetry/sdk-trace'
import type { HeldTraces } from '../processing/held-traces.ts'
import type { Limits } from '../processing/limits.ts'
import { SCOPE_OF_ALL } from '../span.ts'
import { attributeOf, attributesOf, nameOf } from './attributes.ts'
import { UnsampledRoot } from './unsampled-root.ts'

/** What all server spans of a pipeline share. */
export interface SpanHome {
  resource: Resource
  sampler: Sampler
  limits: Limits
  processor: SpanProcessor
  /** Where traces that are not sampled may be kept. */
  traces: HeldTraces | undefined
}

/** Starts the span of a request; with a link, as the root of a trace of its own. */
export type StartRequestSpan = (
  observation: RequestObservation,
  parent: Context,
  link: Link | undefined,
  /** Whether the trace may be kept although it is not sampled. */
  mayKeep: boolean
) => Span

type TimedEvent = ReadableSpan['events'][number]

const TRACE_ID_BYTES = 16
const ID_BYTES = 24
// Drawn for many at once, and made texts of for some: each costs more than the rest. A slice keeps the text that it is of.
const pool = Buffer.alloc(ID_BYTES * 128)
const TEXT_BYTES = ID_BYTES * 16
let used = pool.length
let digits = ''
let characters = ''

/** Where the next ids begin in `digits`, two to a byte, and in `characters`, one to a byte. */
function nextIds(): number {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const at = used % TEXT_BYTES
  if (at === 0) {
    digits = pool.toString('hex', used, used + TEXT_BYTES)
    characters = pool.toString('latin1', used, used + TEXT_BYTES)
  }
  used += ID_BYTES
  return at
}

/**
 * Starts the server spans, which every request has, in place of the SDK's tracer and span. Theirs copy and check the
 * attributes three times, which was the largest part of what a request cost; these know whose attributes they get. All
 * other spans are the SDK's, and both go through the same sampler, limits and processors.
 */
export function startRequestSpans(home: SpanHome): StartRequestSpan {
  return (observation, parent, link, mayKeep) => {
    if (isTracingSuppressed(parent)) return trace.wrapSpanContext(INVALID_SPAN_CONTEXT)
    const around = link ? trace.deleteSpan(parent) : parent
    const above = trace.getSpanContext(around)
    const parentSpanContext = above && trace.isSpanContextValid(above) ? above : undefined
    const start = nextIds()
    const middle = start + TRACE_ID_BYTES
    const end = start + ID_BYTES
    const traceId = parentSpanContext?.traceId ?? digits.slice(2 * start, 2 * middle)
    const spanId = digits.slice(2 * middle, 2 * end)
    const idBytes = parentSpanContext ? undefined : characters.slice(start, end)
    const name = nameOf(observation)
    const links = link ? [link] : NONE
    const { decision, traceState } = home.sampler.shouldSample(around, traceId, name, SpanKind.SERVER, NOTHING, links)
    const spanContext: SpanContext = {
      traceId,
      spanId,
      traceFlags: decision === SamplingDecision.RECORD_AND_SAMPLED ? TraceFlags.SAMPLED : TraceFlags.NONE
    }
    const state = traceState ?? parentSpanContext?.traceState
    if (state) spanContext.traceState = state
    const traces = mayKeep && home.traces?.hasReceivers() ? home.traces : undefined
    if (traces && decision !== SamplingDecision.RECORD_AND_SAMPLED && !parentSpanContext) {
      return new UnsampledRoot(traces, record, spanContext, observation, around, links)
    }
    if (decision === SamplingDecision.NOT_RECORD) return trace.wrapSpanContext(spanContext)
    return begun(new RequestSpan(home, spanContext, parentSpanContext, idBytes, name, observation, links), around)
  }

  function record(context: SpanContext, observation: RequestObservation, around: Context, links: Link[]): Span {
    return begun(new RequestSpan(home, context, undefined, undefined, nameOf(observation), observation, links), around)
  }

  function begun(span: RequestSpan, around: Context): Span {
    home.processor.onStart(span, around)
    return span
  }
}

const NOTHING: Attributes = Object.freeze({})
const NONE: never[] = []
// The clock's zero, in seconds and the milliseconds after them: in one number it would lose the nanoseconds.
const ORIGIN = performance.timeOrigin
const ORIGIN_SECONDS = Math.floor(ORIGIN / 1_000)
const ORIGIN_MS = ORIGIN - 1_000 * ORIGIN_SECONDS
// As many characters as all fields of a request have.
const LONGEST_FIELD = 4_096
// Fifteen years; the milliseconds since 1970 are more.
const MAX_UPTIME_MS = 5e11
const UNSET: SpanStatus = Object.freeze({ code: SpanStatusCode.UNSET })

/** @see https://opentelemetry.io/docs/specs/otel/trace/api/#span */
export class RequestSpan implements Span, EncodableSpan {
  readonly kind = SpanKind.SERVER
  readonly instrumentationScope = SCOPE_OF_ALL
  readonly parentSpanContext: SpanContext | undefined
  readonly idBytes: string | undefined
  sparse: Attributes
  /** The fields that were added to the request: attributes too, which are nowhere else until somebody reads or sets one. */
  added: KeptFields | undefined
  // Most spans have none of these, and share that.
  links: Link[]
  events: TimedEvent[] = NONE
  name: string
  status = UNSET
  ended = false
  droppedAttributesCount = 0
  droppedEventsCount = 0
  droppedLinksCount = 0
  private readonly home: SpanHome
  private readonly context: SpanContext
  /** Milliseconds by which the wall clock, which may be set, is ahead of `performance.now()`. */
  private readonly drift = Date.now() - ORIGIN - performance.now()
  private readonly startedAt: number
  private endedAt = 0
  /** Of the attributes that have a value. */
  private count = 0
  private isSparse = true
  /** Whether it may have attributes that it did not begin with. */
  private isExtended = false

  constructor(
    home: SpanHome,
    context: SpanContext,
    parentSpanContext: SpanContext | undefined,
    idBytes: string | undefined,
    name: string,
    observation: RequestObservation,
    links: Link[]
  ) {
    this.home = home
    this.context = context
    this.parentSpanContext = parentSpanContext
    this.idBytes = idBytes
    this.name = name
    this.startedAt = observation.startedAt
    this.sparse = attributesOf(observation)
    this.links = links
    this.bound()
  }

  /** As the SDK's spans have them; whoever asks may change them. */
  get attributes(): Attributes {
    this.mergeFields()
    this.isExtended = true
    if (this.isSparse) {
      this.sparse = Object.fromEntries(Object.entries(this.sparse).filter(([, value]) => value !== undefined))
      this.isSparse = false
    }
    return this.sparse
  }

  get resource(): Resource {
    return this.home.resource
  }

  get startTime(): HrTime {
    return this.hrTimeOf(this.startedAt)
  }

  get endTime(): HrTime {
    return this.ended ? this.hrTimeOf(this.endedAt) : [0, 0]
  }

  get duration(): HrTime {
    return this.ended ? hrTimeDuration(this.startTime, this.endTime) : [-1, -1]
  }

  spanContext(): SpanContext {
    return this.context
  }

  isRecording(): boolean {
    return !this.ended
  }

  setAttribute(key: string, value: AttributeValue): this {
    if (this.ended || value === undefined || key === '') return this
    this.mergeFields()
    // Of "toString" and the like every object has something.
    const isNew = this.sparse[key] === undefined || !Object.hasOwn(this.sparse, key)
    if (isNew && this.count >= this.home.limits.attributeCountLimit) {
      this.droppedAttributesCount++
      return this
    }
    const kept = this.copied(value)
    if (kept === undefined) return this
    if (isNew) {
      this.count++
      this.isExtended ||= !Object.hasOwn(this.sparse, key)
    }
    this.sparse[key] = kept
    return this
  }

  /**
   * Has the fields of the request as attributes, without a copy: no name is one that the span begins with.
   * @returns false where limits or attributes of the same name have to be looked at, so that each has to be set.
   */
  addFields(fields: KeptFields): boolean {
    const { attributeCountLimit, attributeValueLengthLimit } = this.home.limits
    const fits = this.count + fields.size <= attributeCountLimit && attributeValueLengthLimit >= LONGEST_FIELD
    if (this.ended || this.isExtended || this.added !== undefined || !fits) return false
    this.added = fields
    return true
  }

  // The SDK's spans take what JavaScript may pass, and nothing too.
  setAttributes(attributes: Attributes | undefined): this {
    if (attributes === undefined || attributes === null) return this
    for (const [key, value] of Object.entries(attributes)) this.setAttribute(key, value)
    return this
  }

  addEvent(name: string, attributesOrTime?: Attributes | TimeInput, time?: TimeInput): this {
    if (this.ended) return this
    if (typeof attributesOrTime === 'number') return this.note(name, NOTHING, attributesOrTime, 0)
    const [attributes, at] = isTimeInput(attributesOrTime) ? [{}, attributesOrTime] : [attributesOrTime ?? {}, time]
    const { attributePerEventCountLimit: attributeCountLimit, attributeValueLengthLimit } = this.home.limits
    // Of events the SDK keeps no maps.
    const kept = cleanSimpleAttributes(attributes, { attributeCountLimit, attributeValueLengthLimit })
    return this.note(name, kept.attributes ?? {}, at, kept.droppedAttributesCount ?? 0)
  }

  addLink({ context, attributes = {} }: Link): this {
    if (this.ended) return this
    const { linkCountLimit, attributePerLinkCountLimit, attributeValueLengthLimit } = this.home.limits
    const limits = { attributeCountLimit: attributePerLinkCountLimit, attributeValueLengthLimit }
    if (this.links === NONE) this.links = []
    this.links.push({ context, ...cleanAttributes(attributes, limits) })
    if (this.links.length > linkCountLimit) {
      this.links.shift()
      this.droppedLinksCount++
    }
    return this
  }

  addLinks(links: Link[]): this {
    for (const link of links) this.addLink(link)
    return this
  }

  setStatus({ code, message }: SpanStatus): this {
    // What somebody has called fine stays so.
    if (this.ended || code === SpanStatusCode.UNSET || this.status.code === SpanStatusCode.OK) return this
    const isTold = code === SpanStatusCode.ERROR && typeof message === 'string'
    this.status = isTold ? { code, message } : { code }
    return this
  }

  updateName(name: string): this {
    if (!this.ended) this.name = name
    return this
  }

  // https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/
  recordException(exception: Exception | null | undefined, time?: TimeInput): void {
    if (exception === undefined || exception === null) return
    const { code, name, message, stack } =
      typeof exception === 'string'
        ? { message: exception, code: undefined, name: undefined, stack: undefined }
        : exception
    const attributes: Attributes = {}
    const type = code ? String(code) : name
    if (type) attributes['exception.type'] = type
    if (message) attributes['exception.message'] = message
    if (stack) attributes['exception.stacktrace'] = stack
    if (type || message) this.addEvent('exception', attributes, time)
  }

  end(time?: TimeInput): void {
    if (this.ended) return
    this.endedAt = Math.max(this.clockOf(time), this.startedAt)
    this.home.processor.onEnding?.(this)
    this.ended = true
    this.home.processor.onEnd(this)
  }

  /** As `performance.now()` would have given it. A number is that already, or milliseconds since 1970. */
  private clockOf(time: TimeInput | undefined): number {
    if (time === undefined) return performance.now()
    if (typeof time === 'number' && time < MAX_UPTIME_MS) return time
    const sinceEpoch = typeof time === 'number' ? time : hrTimeToMilliseconds(timeInputToHrTime(time))
    return sinceEpoch - ORIGIN - this.drift
  }

  private hrTimeOf(clock: number): HrTime {
    const ms = ORIGIN_MS + this.drift + clock
    const seconds = Math.floor(ms / 1_000)
    const nanoseconds = Math.round((ms - 1_000 * seconds) * 1e6)
    return nanoseconds < 1e9 ? [ORIGIN_SECONDS + seconds, nanoseconds] : [ORIGIN_SECONDS + seconds + 1, 0]
  }

  private note(
    name: string,
    attributes: Attributes,
    time: TimeInput | undefined,
    droppedAttributesCount: number
  ): this {
    const event = { name, attributes, time: this.hrTimeOf(this.clockOf(time)), droppedAttributesCount }
    // The first push onto an empty array makes room for 17.
    if (this.events === NONE) this.events = [event]
    else this.events.push(event)
    if (this.events.length > this.home.limits.eventCountLimit) {
      this.events.shift()
      this.droppedEventsCount++
    }
    return this
  }

  private mergeFields(): void {
    const { added } = this
    if (added === undefined) return
    this.added = undefined
    for (const [name, value] of added.byName) this.sparse[name] = attributeOf(value)
    this.count += added.size
  }

  private bound(): void {
    const { sparse: attributes, home } = this
    const { attributeCountLimit, attributeValueLengthLimit } = home.limits
    for (const key in attributes) {
      const value = attributes[key]
      if (value === undefined) continue
      if (this.count === attributeCountLimit) {
        attributes[key] = undefined
        this.droppedAttributesCount++
      } else {
        this.count++
        if (typeof value === 'string' && value.length > attributeValueLengthLimit)
          attributes[key] = value.slice(0, attributeValueLengthLimit)
      }
    }
  }

  /** As long as the limit allows, and no longer shared with the caller; `undefined` for what no attribute can hold. */
  private copied(value: AttributeValue): AttributeValue | undefined {
    const { attributeValueLengthLimit } = this.home.limits
    if (typeof value === 'number' || typeof value === 'boolean') return value
    if (typeof value === 'string')
      return value.length > attributeValueLengthLimit ? value.slice(0, attributeValueLengthLimit) : value
    return cleanAttributes({ value }, { attributeCountLimit: 1, attributeValueLengthLimit }).attributes?.value
  }
}
