import { currentObservation } from '@fastify-observability/observation'
import type { Sample } from '../exposition/format.ts'
import {
  exemplarOf,
  Instrument,
  type InstrumentContext,
  type InstrumentOptions,
  isLabels,
  UNLABELLED
} from './instrument.ts'
import type { Labels } from './labels.ts'
import { ScalarSeries } from './series.ts'

/** What a counter is made from. */
export interface CounterOptions<Label extends string = never> extends InstrumentOptions<Label> {
  /** Called before each scrape. When it throws or hangs, that scrape lacks this metric. */
  collect?(this: Counter<Label>): unknown
}

/** A number that only grows. A value that is not a finite, positive number is counted as dropped, and never thrown. */
export class Counter<Label extends string = never> extends Instrument<Label, ScalarSeries> {
  /** As Prometheus calls it. */
  readonly type = 'counter'

  constructor(options: CounterOptions<Label>, context: InstrumentContext) {
    super(options, context, () => new ScalarSeries())
  }

  /** Adds to the counter without labels. @param value 0 or more @default 1 */
  inc(value?: number): void
  /** Adds to the counter with these labels. @param value 0 or more @default 1 */
  inc(labels: Labels<Label>, value?: number): void
  inc(first: Labels<Label> | number = 1, value = 1): void {
    if (isLabels(first)) this.add(first, value)
    else this.add(UNLABELLED, first)
  }

  /** The counter with these labels. */
  labels(labels: Labels<Label>): {
    /** Adds to it. @param value 0 or more @default 1 */
    inc(value?: number): void
  } {
    return { inc: (value) => this.inc(labels, value) }
  }

  protected override samples({ value, exemplar }: ScalarSeries, labels: Sample['labels']): Sample[] {
    return [{ labels, value, exemplar: exemplarOf(exemplar) }]
  }

  private add(labels: object, amount: number): void {
    if (!this.isFinite(amount)) return
    if (amount < 0) this.drop('negative')
    else this.find(labels)?.add(amount, currentObservation()?.spanContext)
  }
}
