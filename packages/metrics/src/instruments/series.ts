import type { SpanContext } from '@opentelemetry/api'
import { acceptedValues, exactValues } from './labels.ts'

/** The label value that collects what exceeds a limit. */
const OVERFLOW = '__overflow__'

export interface Limits {
  /** Label sets of one metric. */
  maxSeries: number
  /** Values of one label of one metric. */
  maxLabelValues: number
}

/** A measurement that stands for the others of its series, with its trace. */
export interface Exemplar {
  traceId: string
  spanId: string
  value: number
  timestampMs: number
}

const SAMPLED = 1

/** The series of one metric, by their labels, in bounded number. */
export class SeriesSet<Label extends string, Child> {
  /** How often series were removed: code that keeps one looks it up again when this has changed. */
  removals = 0
  private readonly labelNames: readonly Label[]
  private readonly create: () => Child
  private readonly limits: Limits
  private readonly overflowed: () => void
  private readonly children = new Map<string, Child>()
  private readonly valuesOf = new Map<Child, readonly string[]>()
  private readonly known: Map<string, number>[]

  constructor(labelNames: readonly Label[], create: () => Child, limits: Limits, overflowed: () => void) {
    this.labelNames = labelNames
    this.create = create
    this.limits = limits
    this.overflowed = overflowed
    this.known = labelNames.map(() => new Map())
  }

  /**
   * The series with these labels, or the one for overflow. A new one is made by `create`.
   * @throws TypeError unless the labels are those declared.
   */
  get(labels: Readonly<Record<Label, string>>, create = this.create): Child {
    return this.at(exactValues(this.labelNames, labels), create)
  }

  /** The same for labels of the application's; `undefined` for those that do not fit. */
  find(labels: unknown): Child | undefined {
    const values = acceptedValues(this.labelNames, labels)
    return values && this.at(values, this.create)
  }

  /** Whether the series is that of these labels and not the one for overflow: only such a one may be kept. */
  isOwn(child: Child, labels: Readonly<Record<Label, string>>): boolean {
    const values = this.valuesOf.get(child)
    return values !== undefined && this.labelNames.every((name, index) => labels[name] === values[index])
  }

  /** Removes the series with these labels. Returns `false` for labels that do not fit. */
  remove(labels: unknown): boolean {
    const values = acceptedValues(this.labelNames, labels)
    if (!values) return false
    const key = keyOf(values)
    const child = this.children.get(key)
    if (child === undefined) return true
    this.removals++
    this.children.delete(key)
    this.valuesOf.delete(child)
    this.known.forEach((known, index) => {
      const value = values[index] ?? ''
      const uses = (known.get(value) ?? 0) - 1
      if (uses > 0) known.set(value, uses)
      else known.delete(value)
    })
    return true
  }

  clear(): void {
    this.removals++
    this.children.clear()
    this.valuesOf.clear()
    for (const known of this.known) known.clear()
  }

  /** All series with their labels. */
  *entries(): Iterable<[Child, Record<string, string>]> {
    for (const [child, values] of this.valuesOf) {
      yield [child, Object.fromEntries(this.labelNames.map((name, index) => [name, values[index] ?? '']))]
    }
  }

  private at(values: readonly string[], create: () => Child): Child {
    return this.children.get(keyOf(values)) ?? this.add(values, create)
  }

  private add(wanted: readonly string[], create: () => Child): Child {
    const values = this.fitting(wanted)
    if (values !== wanted) {
      this.overflowed()
      const existing = this.children.get(keyOf(values))
      if (existing !== undefined) return existing
    }
    const child = create()
    this.children.set(keyOf(values), child)
    this.valuesOf.set(child, values)
    this.known.forEach((known, index) => {
      const value = values[index] ?? ''
      known.set(value, (known.get(value) ?? 0) + 1)
    })
    return child
  }

  private fitting(wanted: readonly string[]): readonly string[] {
    const { known, limits } = this
    let values = wanted
    known.forEach((label, index) => {
      if (label.size < limits.maxLabelValues || label.has(wanted[index] ?? '')) return
      values = values.with(index, OVERFLOW)
    })
    const isFull = this.children.size >= limits.maxSeries && !this.children.has(keyOf(values))
    return isFull ? wanted.map(() => OVERFLOW) : values
  }
}

// With the lengths, because a label may have any character in it.
function keyOf(values: readonly string[]): string {
  if (values.length === 1) return values[0] ?? ''
  let key = ''
  for (const value of values) key += `${value.length}:${value}`
  return key
}

/** One series of a counter or a gauge. */
export class ScalarSeries {
  value = 0
  exemplar: Exemplar | undefined

  add(amount: number, span?: SpanContext): void {
    this.value += amount
    if (span !== undefined && isSampled(span)) this.exemplar = renewed(this.exemplar, amount, span, Date.now())
  }
}

/** One series of a histogram. */
export class HistogramSeries {
  readonly bounds: readonly number[]
  readonly counts: Float64Array
  readonly exemplars: (Exemplar | undefined)[] = []
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    // The last is for what is above every bound.
    this.counts = new Float64Array(bounds.length + 1)
  }

  observe(value: number, span?: SpanContext, now?: number): void {
    const { bounds, counts } = this
    let index = 0
    while (index < bounds.length && value > (bounds[index] ?? 0)) index++
    counts[index] = (counts[index] ?? 0) + 1
    this.sum += value
    if (span !== undefined && isSampled(span))
      this.exemplars[index] = renewed(this.exemplars[index], value, span, now ?? Date.now())
  }
}

export function isSampled({ traceFlags }: SpanContext): boolean {
  return (traceFlags & SAMPLED) === SAMPLED
}

// Prometheus keeps one a bucket and scrape; the strings of more would only outlive their requests.
const EXEMPLAR_MS = 100

function renewed(known: Exemplar | undefined, value: number, { traceId, spanId }: SpanContext, now: number): Exemplar {
  if (known === undefined) return { traceId, spanId, value, timestampMs: now }
  const age = now - known.timestampMs
  // A clock that was set back must not keep it for ever.
  if (age >= 0 && age < EXEMPLAR_MS) return known
  known.traceId = traceId
  known.spanId = spanId
  known.value = value
  known.timestampMs = now
  return known
}
