import type { SpanContext } from '@opentelemetry/api'

/** The label set that takes what a metric has no room for. */
export const OVERFLOW = '__overflow__'

export interface Limits {
  /** Label sets of one metric. */
  maxSeries: number
  /** Values of one label of one metric. */
  maxLabelValues: number
}

export interface Exemplar {
  traceId: string
  spanId: string
  value: number
  timestampMs: number
}

const SAMPLED = 1

/** The series of one metric, by the values of its labels, in bounded number. */
export class SeriesSet<Child> {
  /** How often series were forgotten: who keeps one asks again when this has changed. */
  forgotten = 0
  private readonly create: () => Child
  private readonly limits: Limits
  private readonly overflowed: () => void
  private readonly children = new Map<string, Child>()
  private readonly labelsOf = new Map<Child, readonly string[]>()
  private readonly known: Map<string, number>[]

  constructor(labelNames: readonly string[], create: () => Child, limits: Limits, overflowed: () => void) {
    this.create = create
    this.limits = limits
    this.overflowed = overflowed
    this.known = labelNames.map(() => new Map())
  }

  /** The series of these values, or the one for overflow. A new one is made by `create`. */
  get(values: readonly string[], create = this.create): Child {
    return this.children.get(keyOf(values)) ?? this.add(values, create)
  }

  /** Whether it is the series of just these values, which callers may keep. */
  isOwn(child: Child, values: readonly string[]): boolean {
    const labels = this.labelsOf.get(child)
    return labels !== undefined && keyOf(labels) === keyOf(values)
  }

  remove(values: readonly string[]): void {
    const key = keyOf(values)
    const child = this.children.get(key)
    if (child === undefined) return
    this.forgotten++
    this.children.delete(key)
    this.labelsOf.delete(child)
    this.known.forEach((known, index) => {
      const value = values[index] ?? ''
      const uses = (known.get(value) ?? 0) - 1
      if (uses > 0) known.set(value, uses)
      else known.delete(value)
    })
  }

  clear(): void {
    this.forgotten++
    this.children.clear()
    this.labelsOf.clear()
    for (const known of this.known) known.clear()
  }

  entries(): Iterable<[Child, readonly string[]]> {
    return this.labelsOf
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
    this.labelsOf.set(child, values)
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
    if (span !== undefined && isSampled(span)) this.exemplar = remember(this.exemplar, amount, span, Date.now())
  }
}

/** One label set of a histogram. */
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
      this.exemplars[index] = remember(this.exemplars[index], value, span, now ?? Date.now())
  }
}

export function isSampled({ traceFlags }: SpanContext): boolean {
  return (traceFlags & SAMPLED) === SAMPLED
}

// One a bucket and scrape is what Prometheus keeps; the strings of more would only outlive their requests.
const EXEMPLAR_MS = 100

function remember(known: Exemplar | undefined, value: number, { traceId, spanId }: SpanContext, now: number): Exemplar {
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
