import type { Aggregator, Registry } from '@prometheus-io/client'
import type { Family, Sample, SampleExemplar } from '../exposition/format.ts'
import type { Labels } from './labels.ts'
import { type Exemplar, type Limits, SeriesSet } from './series.ts'

/** Why a value was dropped. */
export type DropReason = 'not_finite' | 'negative' | 'label'

export interface InstrumentOptions<Label extends string> {
  /** In base units, with the unit at the end: `work_seconds`. */
  name: string
  /** What it measures, in one sentence: its HELP text. */
  help: string
  /** Names of its labels, without `le` and without one twice. @default none */
  labelNames?: readonly Label[]
  /** How the values of several processes are combined. @default 'sum' */
  aggregator?: Aggregator
}

/** What all instruments of an app share. */
export interface InstrumentContext {
  registry: Registry
  limits: Limits
  /** Called for each metric that is declared. */
  declared?(metric: { readonly name: string; read(): Family }): void
  /** Called for an invalid value. */
  dropped(metric: string, reason: DropReason): void
  /** Called for a label set beyond the limits of a metric. */
  overflowed(metric: string): void
}

/** A metric that the application or the suite writes to. Invalid values are counted as dropped, and never thrown. */
export abstract class Instrument<Label extends string, Child> {
  /** As Prometheus calls it. */
  abstract readonly type: 'counter' | 'gauge' | 'histogram'
  /** As on `/metrics`. */
  readonly name: string
  /** What it measures. */
  readonly help: string
  /** How the values of several processes are combined. */
  readonly aggregator: Aggregator
  /** In the order of the declaration. */
  readonly labelNames: readonly Label[]
  /** One for each set of labels, in bounded number. */
  readonly series: SeriesSet<Label, Child>
  private readonly context: InstrumentContext

  constructor(
    { name, help, labelNames = [], aggregator = 'sum' }: InstrumentOptions<Label>,
    context: InstrumentContext,
    create: () => Child
  ) {
    this.name = name
    this.help = help
    this.aggregator = aggregator
    this.labelNames = labelNames
    this.context = context
    this.series = new SeriesSet(labelNames, create, context.limits, () => context.overflowed(name))
    this.createUnlabelled()
  }

  protected abstract samples(child: Child, labels: Sample['labels']): Sample[]

  /** Removes one series. */
  remove(labels: Labels<Label>): void {
    if (!this.series.remove(labels)) this.drop('label')
  }

  /** Removes all series. */
  reset(): void {
    this.series.clear()
    this.createUnlabelled()
  }

  /** The values of now, as `/metrics` has them. */
  read(): Family {
    const { name, help, type, aggregator } = this
    const values: Sample[] = []
    for (const [child, labels] of this.series.entries()) values.push(...this.samples(child, labels))
    return { name, help, type, aggregator, values }
  }

  protected find(labels: unknown): Child | undefined {
    const child = this.series.find(labels)
    if (child === undefined) this.drop('label')
    return child
  }

  protected isFinite(value: number): boolean {
    if (Number.isFinite(value)) return true
    this.drop('not_finite')
    return false
  }

  protected drop(reason: DropReason): void {
    this.context.dropped(this.name, reason)
  }

  // A metric without labels is shown before its first value.
  private createUnlabelled(): void {
    if (this.labelNames.length === 0) this.series.find(UNLABELLED)
  }
}

export const UNLABELLED = {}

export function isLabels<Label extends string>(value: Labels<Label> | number): value is Labels<Label> {
  return typeof value === 'object' && value !== null
}

export function exemplarOf(exemplar: Exemplar | undefined): SampleExemplar | undefined {
  if (!exemplar) return undefined
  const { traceId, spanId, value, timestampMs } = exemplar
  return { labelSet: { trace_id: traceId, span_id: spanId }, value, timestamp: timestampMs / 1000 }
}
