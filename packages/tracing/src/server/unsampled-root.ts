import type { RequestObservation } from '@fastify-observability/observation/internal'
import {
  type Attributes,
  type AttributeValue,
  type Context,
  type Exception,
  type Link,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  type TimeInput
} from '@opentelemetry/api'
import type { InstrumentationScope } from '@opentelemetry/core'
import { HeldTrace, type HeldTraces, hold } from '../processing/held-traces.ts'
import { SCOPE_OF_ALL } from '../span.ts'

/** Begins to record the span that stands for this one. */
export type BeginRecording = (
  context: SpanContext,
  observation: RequestObservation,
  around: Context,
  links: Link[]
) => Span

/**
 * The server span of a trace that is not sampled and may be kept, and that trace. Nearly all are forgotten: it is recorded
 * when somebody adds something to it, or when it is kept.
 */
export class UnsampledRoot extends HeldTrace implements Span {
  declare private readonly record: BeginRecording
  declare private readonly context: SpanContext
  declare private readonly observation: RequestObservation
  declare private readonly around: Context
  declare private readonly links: Link[]
  declare private recorded: Span | undefined

  constructor(
    traces: HeldTraces,
    record: BeginRecording,
    context: SpanContext,
    observation: RequestObservation,
    around: Context,
    links: Link[]
  ) {
    super(traces)
    this.record = record
    this.context = context
    this.observation = observation
    this.around = around
    this.links = links
    // Others may add to a span when it begins.
    this.recorded = traces.isWatched ? this.begin() : undefined
  }

  get kind(): SpanKind {
    return SpanKind.SERVER
  }

  get instrumentationScope(): InstrumentationScope {
    return SCOPE_OF_ALL
  }

  spanContext(): SpanContext {
    return this.context
  }

  isRecording(): boolean {
    return this.recorded ? this.recorded.isRecording() : this.isRecorded
  }

  setAttribute(key: string, value: AttributeValue): this {
    this.open?.setAttribute(key, value)
    return this
  }

  setAttributes(attributes: Attributes): this {
    this.open?.setAttributes(attributes)
    return this
  }

  addEvent(name: string, attributesOrTime?: Attributes | TimeInput, time?: TimeInput): this {
    this.open?.addEvent(name, attributesOrTime, time)
    return this
  }

  addLink(link: Link): this {
    this.open?.addLink(link)
    return this
  }

  addLinks(links: Link[]): this {
    this.open?.addLinks(links)
    return this
  }

  setStatus(status: SpanStatus): this {
    this.open?.setStatus(status)
    return this
  }

  updateName(name: string): this {
    this.open?.updateName(name)
    return this
  }

  recordException(exception: Exception, time?: TimeInput): void {
    this.open?.recordException(exception, time)
  }

  end(time?: TimeInput): void {
    this.open?.end(time)
  }

  private get open(): Span | undefined {
    if (!this.isRecording()) return undefined
    this.recorded ??= this.begin()
    return this.recorded
  }

  private begin(): Span {
    return hold(this.record(this.context, this.observation, this.around, this.links), this)
  }
}
