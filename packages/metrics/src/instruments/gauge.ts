import type { Sample } from '../exposition/format.ts'
import { Instrument, type InstrumentContext, type InstrumentOptions, isLabels, UNLABELLED } from './instrument.ts'
import type { Labels } from './labels.ts'
import { ScalarSeries } from './series.ts'

/** What a gauge is made from. */
export interface GaugeOptions<Label extends string = never> extends InstrumentOptions<Label> {
  /** Called before each scrape. When it throws or hangs, that scrape lacks this metric. */
  collect?(this: Gauge<Label>): unknown
}

/** A number that goes up and down. A value that is not a finite number is counted as dropped, and never thrown. */
export class Gauge<Label extends string = never> extends Instrument<Label, ScalarSeries> {
  /** As Prometheus calls it. */
  readonly type = 'gauge'

  constructor(options: GaugeOptions<Label>, context: InstrumentContext) {
    super(options, context, () => new ScalarSeries())
  }

  /** Sets the gauge without labels. */
  set(value: number): void
  /** Sets the gauge with these labels. */
  set(labels: Labels<Label>, value: number): void
  set(first: Labels<Label> | number, value = Number.NaN): void {
    if (!isLabels(first)) this.put(UNLABELLED, first)
    else this.put(first, value)
  }

  /** Adds to the gauge without labels. @param value how much @default 1 */
  inc(value?: number): void
  /** Adds to the gauge with these labels. @param value how much @default 1 */
  inc(labels: Labels<Label>, value?: number): void
  inc(first: Labels<Label> | number = 1, value = 1): void {
    if (isLabels(first)) this.add(first, value)
    else this.add(UNLABELLED, first)
  }

  /** Subtracts from the gauge without labels. @param value how much @default 1 */
  dec(value?: number): void
  /** Subtracts from the gauge with these labels. @param value how much @default 1 */
  dec(labels: Labels<Label>, value?: number): void
  dec(first: Labels<Label> | number = 1, value = 1): void {
    if (isLabels(first)) this.add(first, -value)
    else this.add(UNLABELLED, -first)
  }

  /** Sets it to the time now, in seconds since 1970. */
  setToCurrentTime(labels?: Labels<Label>): void {
    this.put(labels ?? UNLABELLED, Date.now() / 1000)
  }

  /** The gauge with these labels. */
  labels(labels: Labels<Label>): {
    /** Sets it. */
    set(value: number): void
    /** Adds to it. @param value how much @default 1 */
    inc(value?: number): void
    /** Subtracts from it. @param value how much @default 1 */
    dec(value?: number): void
  } {
    return {
      set: (value) => this.set(labels, value),
      inc: (value) => this.inc(labels, value),
      dec: (value) => this.dec(labels, value)
    }
  }

  protected override samples({ value }: ScalarSeries, labels: Sample['labels']): Sample[] {
    return [{ labels, value }]
  }

  private put(labels: object, value: number): void {
    if (!this.isFinite(value)) return
    const series = this.find(labels)
    if (series) series.value = value
  }

  private add(labels: object, amount: number): void {
    if (this.isFinite(amount)) this.find(labels)?.add(amount)
  }
}
