/** One line of an exposition. */
export interface Sample {
  labels: Record<string, string | number | undefined>
  value: number
  /** Where it differs from the name of its family. */
  metricName?: string
  exemplar?: SampleExemplar | null
}

/** As the client keeps them; the timestamp is in seconds. */
export interface SampleExemplar {
  labelSet: Record<string, string | number | undefined>
  value: number
  timestamp?: number
}

/** A metric with all its series, as the client's `get()` gives it. */
export interface Family {
  name: string
  help: string
  type: string
  aggregator?: string
  /** Read when it is collected, and not written to as things happen. */
  isObserved?: boolean
  values: readonly Sample[]
}

/** What a scrape is answered in: Prometheus’ text format or OpenMetrics. */
export type Format = 'text' | 'openmetrics'

export const CONTENT_TYPES: Record<Format, string> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8'
}

const TARGET = 'target_info'
const UNIT = /_(seconds|bytes|ratio|celsius|meters|joules|grams|volts|amperes)$/

/**
 * Writes metrics as Prometheus reads them.
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 * @see https://prometheus.io/docs/specs/om/open_metrics_spec/
 */
export function render(families: readonly Family[], format: Format): string {
  // OpenMetrics wants the target first.
  const ordered = families.toSorted((one, other) => Number(other.name === TARGET) - Number(one.name === TARGET))
  if (format === 'text') return ordered.map(textFamily).join('')
  return `${ordered.map(openMetricsFamily).join('')}# EOF\n`
}

function textFamily({ name, help, type, values }: Family): string {
  let text = `# HELP ${name} ${escapeText(help)}\n# TYPE ${name} ${type}\n`
  for (const { metricName = name, labels, value } of values) {
    text += `${metricName}${labelSet(labels, labelValue)} ${number(value)}\n`
  }
  return text
}

function openMetricsFamily({ name, help, type, values }: Family): string {
  const isCounter = type === 'counter'
  const family = isCounter ? name.replace(/_total$/, '') : name === TARGET ? 'target' : name
  const unit = UNIT.exec(family)?.[1]
  let text = `# TYPE ${family} ${name === TARGET ? 'info' : type === 'untyped' ? 'unknown' : type}\n`
  if (unit !== undefined) text += `# UNIT ${family} ${unit}\n`
  text += `# HELP ${family} ${escapeLabel(help)}\n`
  for (const { metricName = isCounter ? `${family}_total` : name, labels, value, exemplar } of values) {
    text += `${metricName}${labelSet(labels, openMetricsValue)} ${number(value)}${exemplarText(exemplar)}\n`
  }
  return text
}

function exemplarText(exemplar: SampleExemplar | null | undefined): string {
  if (!exemplar) return ''
  const { labelSet: labels, value, timestamp } = exemplar
  return ` # ${labelSet(labels, labelValue) || '{}'} ${number(value)}${timestamp === undefined ? '' : ` ${timestamp}`}`
}

function labelSet(labels: Sample['labels'], write: (name: string, value: string | number) => string): string {
  let text = ''
  for (const name in labels) {
    const value = labels[name]
    if (value !== undefined) text += `${text === '' ? '{' : ','}${name}="${write(name, value)}"`
  }
  return text === '' ? '' : `${text}}`
}

// The client keeps label values as they were given: in JavaScript, also booleans and null.
function labelValue(_name: string, value: unknown): string {
  return typeof value === 'number' ? number(value) : escapeLabel(String(value).toWellFormed())
}

// Bounds and quantiles are floats: `1` is written `1.0`.
function openMetricsValue(name: string, value: string | number): string {
  const isBound = (name === 'le' || name === 'quantile') && Number.isInteger(Number(value))
  return isBound ? Number(value).toFixed(1) : labelValue(name, value)
}

function number(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value)
}

function escapeText(text: string): string {
  return /[\\\n]/.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n') : text
}

function escapeLabel(text: string): string {
  return escapeText(text).replaceAll('"', '\\"')
}
