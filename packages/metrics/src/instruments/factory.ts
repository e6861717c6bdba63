import { documented } from '@fastify-observability/observation/internal'
import client, { type Aggregator, type Registry } from '@prometheus-io/client'
import type { Family } from '../exposition/format.ts'
import { Counter, type CounterOptions } from './counter.ts'
import { Gauge, type GaugeOptions } from './gauge.ts'
import { Histogram, type HistogramOptions, isAscending } from './histogram.ts'
import type { Instrument, InstrumentContext, InstrumentOptions } from './instrument.ts'

/** Declares the metrics of an app. The same name again gives the first. */
export interface Factory {
  /** @throws TypeError when the name, the labels or their meaning are wrong. */
  counter<const Label extends string = never>(options: CounterOptions<Label>): Counter<Label>
  /** @throws TypeError when the name, the labels or their meaning are wrong. */
  gauge<const Label extends string = never>(options: GaugeOptions<Label>): Gauge<Label>
  /** @throws TypeError when the name, the labels, the buckets or their meaning are wrong. */
  histogram<const Label extends string = never>(options: HistogramOptions<Label>): Histogram<Label>
}

/** What the client's registry needs to know of a metric. */
export interface Description {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly string[]
  readonly aggregator: Aggregator
}

type ClientMetric = new (
  configuration: Omit<Description, 'labelNames'> & { labelNames: string[]; registers: Registry[] }
) => object

const FORWARDED = ['inc', 'dec', 'set', 'setToCurrentTime', 'observe', 'startTimer', 'labels', 'remove', 'reset']
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
/** The names that a label may have: those that begin with two underscores are Prometheus's own. */
export const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/

/**
 * Makes the functions that declare metrics. The same name again gives the first.
 * @throws TypeError when name, help, labels or buckets are wrong, or the name has another meaning already.
 */
export function createFactory(context: InstrumentContext): Factory {
  const { registry } = context
  const declared = new Map<string, { metric: unknown; registered: unknown }>()

  function declare<
    Label extends string,
    Options extends InstrumentOptions<Label>,
    Kind extends Instrument<Label, unknown>
  >(
    kind: new (options: Options, context: InstrumentContext) => Kind,
    clientKind: ClientMetric,
    options: Options & { collect?(this: Kind): unknown }
  ): Kind {
    checkOptions(options)
    const { name, collect } = options
    const { metric: known, registered } = declared.get(name) ?? {}
    const present = registry.getSingleMetric(name)
    // One that was removed from the registry is declared anew.
    if (known instanceof kind && present === registered) {
      checkLabels(known, options.labelNames)
      return known
    }
    if (present) throw metricError(name, 'has already been declared as another metric')
    const metric = new kind(options, context)
    // OpenMetrics names a counter without its ending.
    const rival = metric.type === 'counter' ? name.slice(0, -'_total'.length) : `${name}_total`
    if (registry.getSingleMetric(rival))
      throw metricError(name, `conflicts with ${rival}: OpenMetrics has one name for both`)
    registerMetric(registry, clientKind, metric, async () => {
      if (collect) await collect.call(metric)
      return metric.read()
    })
    declared.set(name, { metric, registered: registry.getSingleMetric(name) })
    context.declared?.(metric)
    return metric
  }

  return {
    counter<const Label extends string = never>(options: CounterOptions<Label>): Counter<Label> {
      if (!options.name.endsWith('_total')) throw metricError(options.name, 'must end in "_total", as counters do')
      return declare(Counter<Label>, client.Counter, options)
    },
    gauge<const Label extends string = never>(options: GaugeOptions<Label>): Gauge<Label> {
      return declare(Gauge<Label>, client.Gauge, options)
    },
    histogram<const Label extends string = never>(options: HistogramOptions<Label>): Histogram<Label> {
      const { name, labelNames = [], buckets } = options
      if (labelNames.some((label) => label === 'le')) throw metricError(name, 'must not have a label "le"')
      if (buckets && !isAscending(buckets))
        throw metricError(name, `must have ascending buckets, got [${buckets.join(', ')}]`)
      return declare(Histogram<Label>, client.Histogram, options)
    }
  }
}

/**
 * Registers a metric of the suite in the client's registry as one of the client's own, for all code that reads the
 * registry or writes to its metrics.
 */
export function registerMetric(
  registry: Registry,
  kind: ClientMetric,
  metric: Description,
  get: () => Promise<Family>
): void {
  const { name, help, labelNames, aggregator } = metric
  const registered = new kind({ name, help, labelNames: [...labelNames], aggregator, registers: [registry] })
  for (const method of FORWARDED) {
    const implementation: unknown = Reflect.get(metric, method)
    if (typeof implementation === 'function') Reflect.set(registered, method, implementation.bind(metric))
  }
  Object.assign(registered, { get, getForPromString: get })
}

function checkOptions({
  name,
  help,
  labelNames = [],
  collect
}: InstrumentOptions<string> & { collect?: unknown }): void {
  if (typeof name !== 'string' || !NAME.test(name)) throw metricError(name, 'is not a name of letters, digits and "_"')
  if (collect !== undefined && typeof collect !== 'function') throw metricError(name, 'must have a function as collect')
  if (typeof help !== 'string' || help === '') throw metricError(name, 'must have a help text')
  const wrong = labelNames.find((label, at) => !LABEL_NAME.test(label) || labelNames.indexOf(label) !== at)
  if (wrong !== undefined)
    throw metricError(name, `must have distinct label names of letters, digits and "_", got "${wrong}"`)
}

function checkLabels({ name, labelNames }: Instrument<string, unknown>, wanted: readonly string[] = []): void {
  if (labelNames.length === wanted.length && wanted.every((label) => labelNames.includes(label))) return
  throw metricError(name, `has been declared with the labels [${labelNames.join(', ')}], got [${wanted.join(', ')}]`)
}

function metricError(name: string, rule: string): TypeError {
  return documented(new TypeError(`@fastify-observability/metrics: metric "${name}" ${rule}`), 'wrong-options')
}
