import { currentObservation } from '@fastify-observability/observation'
import client, { type Aggregator, type Registry } from '@prometheus-io/client'
import type { Family, Sample, SampleExemplar } from './exposition.ts'
import { type Exemplar, HistogramSeries, type Limits, ScalarSeries, SeriesSet } from './series.ts'

/** The values of a metric's labels; one that is left out is empty. */
export type Labels<Label extends string> = { [Name in Label]?: string | number } & ([Label] extends [never]
  ? Record<string, never>
  : unknown)

/** Why a value was dropped. */
export type DropReason = 'not_finite' | 'negative' | 'label'

interface MetricOptions<Label extends string> {
  /** In base units, with the unit at the end: `work_seconds`. */
  name: string
  help: string
  /** @default none */
  labelNames?: readonly Label[]
  /** How the values of several processes make one. @default 'sum' */
  aggregator?: Aggregator
}

export interface CounterOptions<Label extends string = never> extends MetricOptions<Label> {
  /** Called before each scrape; one that throws or hangs costs this metric only. */
  collect?(this: Counter<Label>): unknown
}

export interface GaugeOptions<Label extends string = never> extends MetricOptions<Label> {
  /** Called before each scrape; one that throws or hangs costs this metric only. */
  collect?(this: Gauge<Label>): unknown
}

export interface HistogramOptions<Label extends string = never> extends MetricOptions<Label> {
  /** Upper bounds, ascending. @default the request duration's, in seconds */
  buckets?: readonly number[]
}

/** What every metric of an app shares. */
export interface Ledger {
  registry: Registry
  limits: Limits
  /** A value that cannot be kept. */
  dropped(metric: string, reason: DropReason): void
  /** A label set that a metric has no room for. */
  overflowed(metric: string): void
}

/** @see https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpserverrequestduration */
export const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

const NONE = {}
// What a caller sends may become a label; this is as much as is kept of it.
const MAX_LABEL_LENGTH = 256

abstract class Metric<Label extends string, Child> {
  abstract readonly type: 'counter' | 'gauge' | 'histogram'
  readonly name: string
  readonly labelNames: readonly Label[]
  readonly series: SeriesSet<Child>
  /** What the registry has to know of it. */
  readonly face: { name: string; help: string; aggregator: Aggregator }
  private readonly ledger: Ledger

  constructor(
    { name, help, labelNames = [], aggregator = 'sum' }: MetricOptions<Label>,
    ledger: Ledger,
    create: () => Child
  ) {
    this.name = name
    this.labelNames = labelNames
    this.face = { name, help, aggregator }
    this.ledger = ledger
    this.series = new SeriesSet(labelNames, create, ledger.limits, () => ledger.overflowed(name))
    if (labelNames.length === 0) this.series.get([])
  }

  protected abstract samples(child: Child, labels: Sample['labels']): Sample[]

  /** Forgets one series. */
  remove(labels: Labels<Label>): void {
    const values = this.valuesOf(labels)
    if (values) this.series.remove(values)
  }

  /** Forgets all series. */
  reset(): void {
    this.series.clear()
    if (this.labelNames.length === 0) this.series.get([])
  }

  read(): Family {
    const values: Sample[] = []
    for (const [child, labels] of this.series.entries()) {
      values.push(...this.samples(child, Object.fromEntries(this.labelNames.map((name, at) => [name, labels[at]]))))
    }
    return { ...this.face, type: this.type, values }
  }

  protected find(labels: object): Child | undefined {
    const values = this.valuesOf(labels)
    return values && this.series.get(values)
  }

  protected isFinite(value: number): boolean {
    if (Number.isFinite(value)) return true
    this.drop('not_finite')
    return false
  }

  protected drop(reason: DropReason): void {
    this.ledger.dropped(this.name, reason)
  }

  private valuesOf(labels: unknown): string[] | undefined {
    if (typeof labels !== 'object' || labels === null) {
      this.drop('label')
      return undefined
    }
    const values: string[] = []
    let given = 0
    for (const name of this.labelNames) {
      const value: unknown = Reflect.get(labels, name)
      if (value !== undefined) given++
      if (value !== undefined && typeof value !== 'string' && typeof value !== 'number') {
        this.drop('label')
        return undefined
      }
      values.push(value === undefined ? '' : String(value).slice(0, MAX_LABEL_LENGTH).toWellFormed())
    }
    // All that were asked for are accounted for, unless there is one that nobody asked for.
    if (given === Object.keys(labels).length || Object.keys(labels).every((name) => isOneOf(this.labelNames, name))) {
      return values
    }
    this.drop('label')
    return undefined
  }
}

/** A number that only grows. What is not a finite, positive number is counted as dropped, and never thrown. */
export class Counter<Label extends string = never> extends Metric<Label, ScalarSeries> {
  readonly type = 'counter'

  constructor(options: CounterOptions<Label>, ledger: Ledger) {
    super(options, ledger, () => new ScalarSeries())
  }

  inc(value?: number): void
  inc(labels: Labels<Label>, value?: number): void
  inc(first: Labels<Label> | number = 1, value = 1): void {
    if (isLabels(first)) this.add(first, value)
    else this.add(NONE, first)
  }

  /** The counter with these labels. */
  labels(labels: Labels<Label>): { inc(value?: number): void } {
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

/** A number that comes and goes. What is not a finite number is counted as dropped, and never thrown. */
export class Gauge<Label extends string = never> extends Metric<Label, ScalarSeries> {
  readonly type = 'gauge'

  constructor(options: GaugeOptions<Label>, ledger: Ledger) {
    super(options, ledger, () => new ScalarSeries())
  }

  set(value: number): void
  set(labels: Labels<Label>, value: number): void
  set(first: Labels<Label> | number, value = Number.NaN): void {
    if (!isLabels(first)) this.put(NONE, first)
    else this.put(first, value)
  }

  inc(value?: number): void
  inc(labels: Labels<Label>, value?: number): void
  inc(first: Labels<Label> | number = 1, value = 1): void {
    if (isLabels(first)) this.add(first, value)
    else this.add(NONE, first)
  }

  dec(value?: number): void
  dec(labels: Labels<Label>, value?: number): void
  dec(first: Labels<Label> | number = 1, value = 1): void {
    if (isLabels(first)) this.add(first, -value)
    else this.add(NONE, -first)
  }

  /** Sets it to the time now, in seconds since 1970. */
  setToCurrentTime(labels?: Labels<Label>): void {
    this.put(labels ?? NONE, Date.now() / 1000)
  }

  /** The gauge with these labels. */
  labels(labels: Labels<Label>): { set(value: number): void; inc(value?: number): void; dec(value?: number): void } {
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

/** A distribution. What is not a finite number is counted as dropped, and never thrown. */
export class Histogram<Label extends string = never> extends Metric<Label, HistogramSeries> {
  readonly type = 'histogram'
  readonly buckets: readonly number[]

  constructor(options: HistogramOptions<Label>, ledger: Ledger) {
    const { buckets = DURATION_BUCKETS } = options
    super(options, ledger, () => new HistogramSeries(buckets))
    this.buckets = buckets
  }

  observe(value: number): void
  observe(labels: Labels<Label>, value: number): void
  observe(first: Labels<Label> | number, value = Number.NaN): void {
    if (isLabels(first)) this.add(first, value)
    else this.add(NONE, first)
  }

  /** Observes the seconds until the returned function is called, which returns them. */
  startTimer(labels?: Labels<Label>): (more?: Labels<Label>) => number {
    const startedAt = performance.now()
    return (more) => {
      const seconds = (performance.now() - startedAt) / 1000
      this.add({ ...labels, ...more }, seconds)
      return seconds
    }
  }

  /** The histogram with these labels. */
  labels(labels: Labels<Label>): { observe(value: number): void } {
    return { observe: (value) => this.observe(labels, value) }
  }

  protected override samples(series: HistogramSeries, labels: Sample['labels']): Sample[] {
    return histogramSamples(this.name, series, labels)
  }

  private add(labels: object, value: number): void {
    if (this.isFinite(value)) this.find(labels)?.observe(value, currentObservation()?.spanContext)
  }
}

function histogramSamples(name: string, series: HistogramSeries, labels: Sample['labels']): Sample[] {
  const { bounds, counts, exemplars, sum } = series
  const metricName = `${name}_bucket`
  let count = 0
  const samples: Sample[] = Array.from(counts, (inBucket, at) => {
    count += inBucket
    const exemplar = exemplarOf(exemplars[at])
    return { metricName, labels: { ...labels, le: bounds[at] ?? '+Inf' }, value: count, exemplar }
  })
  samples.push({ metricName: `${name}_sum`, labels, value: sum }, { metricName: `${name}_count`, labels, value: count })
  return samples
}

function exemplarOf(exemplar: Exemplar | undefined): SampleExemplar | undefined {
  if (!exemplar) return undefined
  const { traceId, spanId, value, timestampMs } = exemplar
  return { labelSet: { trace_id: traceId, span_id: spanId }, value, timestamp: timestampMs / 1000 }
}

function isLabels<Label extends string>(value: Labels<Label> | number): value is Labels<Label> {
  return typeof value === 'object' && value !== null
}

function isOneOf(names: readonly string[], name: string): boolean {
  return names.includes(name)
}

const FORWARDED = ['inc', 'dec', 'set', 'setToCurrentTime', 'observe', 'startTimer', 'labels', 'remove', 'reset']
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/

type Face = new (configuration: {
  name: string
  help: string
  labelNames: string[]
  aggregator: Aggregator
  registers: Registry[]
}) => object

/**
 * Makes the functions that declare metrics. Asking twice for a name gives the first.
 * @throws TypeError when name, help, labels or buckets are wrong, or the name has another meaning already.
 */
export function createFactory(ledger: Ledger) {
  const { registry } = ledger
  const declared = new Map<string, unknown>()

  function declare<Label extends string, Options extends MetricOptions<Label>, Kind extends Metric<Label, unknown>>(
    kind: new (options: Options, ledger: Ledger) => Kind,
    face: Face,
    options: Options & { collect?(this: Kind): unknown }
  ): Kind {
    check(options)
    const { name, collect } = options
    const known = declared.get(name)
    if (known instanceof kind) {
      checkLabels(known, options.labelNames)
      return known
    }
    if (registry.getSingleMetric(name)) throw refusal(name, 'has already been declared as another metric')
    const metric = new kind(options, ledger)
    // OpenMetrics names a counter without its ending.
    const rival = metric.type === 'counter' ? name.slice(0, -'_total'.length) : `${name}_total`
    if (registry.getSingleMetric(rival))
      throw refusal(name, `cannot stand beside ${rival}: OpenMetrics has one name for both`)
    showMetric(registry, face, metric, async () => {
      if (collect) await collect.call(metric)
      return metric.read()
    })
    declared.set(name, metric)
    return metric
  }

  return {
    counter<const Label extends string = never>(options: CounterOptions<Label>): Counter<Label> {
      if (!options.name.endsWith('_total')) throw refusal(options.name, 'must end in "_total", as counters do')
      return declare(Counter<Label>, client.Counter, options)
    },
    gauge<const Label extends string = never>(options: GaugeOptions<Label>): Gauge<Label> {
      return declare(Gauge<Label>, client.Gauge, options)
    },
    histogram<const Label extends string = never>(options: HistogramOptions<Label>): Histogram<Label> {
      const { name, labelNames = [], buckets } = options
      if (labelNames.some((label) => label === 'le')) throw refusal(name, 'must not have a label "le"')
      if (buckets && !isAscending(buckets))
        throw refusal(name, `must have ascending buckets, got [${buckets.join(', ')}]`)
      return declare(Histogram<Label>, client.Histogram, options)
    }
  }
}

/** Puts a metric of ours into the client's registry, in the client's own kind, for all that reads or writes there. */
export function showMetric(
  registry: Registry,
  face: Face,
  metric: { readonly face: Metric<string, unknown>['face']; readonly labelNames: readonly string[] },
  get: () => Promise<Family>
): void {
  const shown = new face({ ...metric.face, labelNames: [...metric.labelNames], registers: [registry] })
  for (const name of FORWARDED) {
    const method: unknown = Reflect.get(metric, name)
    if (typeof method === 'function') Reflect.set(shown, name, method.bind(metric))
  }
  Object.assign(shown, { get, getForPromString: get })
}

/** Whether these can be the bounds of a histogram. */
export function isAscending(buckets: readonly number[]): boolean {
  return (
    buckets.length > 0 && buckets.every((bound, at) => Number.isFinite(bound) && bound > (buckets[at - 1] ?? -Infinity))
  )
}

function check({ name, help, labelNames = [] }: MetricOptions<string>): void {
  if (typeof name !== 'string' || !NAME.test(name)) throw refusal(name, 'is not a name of letters, digits and "_"')
  if (typeof help !== 'string' || help === '') throw refusal(name, 'must have a help text')
  const wrong = labelNames.find((label, at) => !LABEL_NAME.test(label) || labelNames.indexOf(label) !== at)
  if (wrong !== undefined)
    throw refusal(name, `must have distinct label names of letters, digits and "_", got "${wrong}"`)
}

function checkLabels({ name, labelNames }: Metric<string, unknown>, wanted: readonly string[] = []): void {
  if (labelNames.length === wanted.length && wanted.every((label) => labelNames.includes(label))) return
  throw refusal(name, `has been declared with the labels [${labelNames.join(', ')}], got [${wanted.join(', ')}]`)
}

function refusal(name: string, rule: string): TypeError {
  return new TypeError(`@fastify-observability/metrics: metric "${name}" ${rule}`)
}
