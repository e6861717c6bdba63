// Asks whether what the queries name is what the services sent: a field that is renamed fails here, not in a panel that stays empty.
import { parser as logQl } from '@grafana/lezer-logql'
import { parser as traceQl } from '@grafana/lezer-traceql'
import { parser as promQl } from '@prometheus-io/lezer-promql'
import type { Query } from '../queries.ts'
import type { Attributes, SentLog, SentSpan, Value } from './sent.ts'

/** What was sent, by the names that each language has for it. */
export interface Evidence {
  /** The labels of each metric; none for a metric that has no series yet. */
  metrics: Map<string, Set<string>>
  /** The values of each label and of each field of structured metadata of the lines in Loki. */
  lineFields: Map<string, Set<Value>>
  spanAttributes: Map<string, Set<Value>>
  resourceAttributes: Map<string, Set<Value>>
}

interface Node {
  name: string
  from: number
  to: number
  firstChild: Node | null
  nextSibling: Node | null
}

// Loki adds them to what comes over OTLP.
const OF_LOKI = ['service_name', 'detected_level']
/** What every target of Prometheus brings. */
const OF_TARGETS = ['job', 'instance', 'service']
/** What Prometheus adds to an alert. */
const OF_ALERTS = ['alertname', 'alertstate', 'severity']

function collect(into: Map<string, Set<Value>>, attributes: Attributes, rename = (name: string) => name): void {
  for (const [name, value] of Object.entries(attributes)) {
    const values = into.get(rename(name)) ?? new Set()
    into.set(rename(name), values.add(value))
  }
}

/** As Loki's OTLP endpoint names an attribute. */
function lokiName(name: string): string {
  return name.replace(/[^a-zA-Z0-9_]/g, '_')
}

export function gatherEvidence(spans: SentSpan[], logs: SentLog[], metrics: Map<string, Set<string>>): Evidence {
  const evidence: Evidence = {
    metrics,
    lineFields: new Map(OF_LOKI.map((name) => [name, new Set()])),
    spanAttributes: new Map(),
    resourceAttributes: new Map()
  }
  for (const { attributes, resource } of spans) {
    collect(evidence.spanAttributes, attributes)
    collect(evidence.resourceAttributes, resource)
  }
  for (const { attributes, resource, severity, traceId } of logs) {
    collect(evidence.lineFields, { ...resource, ...attributes, severity_text: severity }, lokiName)
    if (traceId) collect(evidence.lineFields, { trace_id: traceId })
  }
  return evidence
}

/** A sentence for each name in the query that nothing was sent under, or that was sent as something else. */
export function unknownNames(query: Query, evidence: Evidence): string[] {
  if (query.language === 'PromQL') return unknownSeries(query.expr, evidence.metrics)
  if (query.language === 'LogQL') return unknownFields(query.expr, evidence.lineFields)
  return unknownAttributes(query.expr, evidence)
}

function children(node: Node): Node[] {
  const found: Node[] = []
  for (let child = node.firstChild; child; child = child.nextSibling) found.push(child)
  return found
}

function descendants(node: Node): Node[] {
  return children(node).flatMap((child) => [child, ...descendants(child)])
}

function unknownSeries(expr: string, metrics: Map<string, Set<string>>): string[] {
  const nodes = descendants(promQl.parse(expr).topNode)
  const problems: string[] = []
  const available = new Set(OF_TARGETS)
  let isOpen = false
  for (const selector of nodes.filter(({ name }) => name === 'VectorSelector')) {
    const [first] = children(selector)
    const metric = first?.name === 'Identifier' ? expr.slice(first.from, first.to) : ''
    const labels = metric === 'ALERTS' ? new Set(OF_ALERTS) : metrics.get(metric)
    if (!labels) {
      problems.push(`there is no metric ${metric}`)
      isOpen = true
      continue
    }
    if (labels.size === 0) isOpen = true
    for (const label of labels) available.add(label)
    for (const { from, to } of descendants(selector).filter(({ name }) => name === 'LabelName')) {
      const label = expr.slice(from, to)
      const isKnown = labels.size === 0 || labels.has(label) || OF_TARGETS.includes(label)
      if (!isKnown) problems.push(`${metric} has no label ${label}`)
    }
  }
  for (const grouping of nodes.filter(({ name }) => name === 'GroupingLabels')) {
    for (const { from, to } of children(grouping).filter(({ name }) => name === 'LabelName')) {
      const label = expr.slice(from, to)
      if (!isOpen && !available.has(label)) problems.push(`no metric here has a label ${label}`)
    }
  }
  return [...new Set(problems)]
}

function unknownFields(expr: string, fields: Map<string, Set<Value>>): string[] {
  const problems: string[] = []
  for (const node of descendants(logQl.parse(expr).topNode)) {
    const isNumeric = node.name === 'NumberFilter'
    if (!isNumeric && !['Matcher', 'Labels', 'DurationFilter', 'BytesFilter'].includes(node.name)) continue
    for (const { from, to } of children(node).filter(({ name }) => name === 'Identifier')) {
      const field = expr.slice(from, to)
      const values = fields.get(field)
      if (!values) problems.push(`no line has ${field}`)
      else if (isNumeric && [...values].some((value) => typeof value !== 'number')) {
        problems.push(
          `${field} is compared with a number and was sent as "${[...values].find((value) => typeof value !== 'number')}"`
        )
      }
    }
  }
  return [...new Set(problems)]
}

function unknownAttributes(expr: string, { spanAttributes, resourceAttributes }: Evidence): string[] {
  const problems: string[] = []
  const nodes = descendants(traceQl.parse(expr).topNode)
  for (const node of nodes.filter(({ name }) => name === 'AttributeField')) {
    const [scope, name = ''] =
      /^(?:(span|resource)?\.)(.+)$/.exec(expr.slice(node.from, node.to).trim())?.slice(1) ?? []
    const values = [
      ...(scope === 'resource' ? [] : (spanAttributes.get(name) ?? [])),
      ...(scope === 'span' ? [] : (resourceAttributes.get(name) ?? []))
    ]
    if (values.length === 0) {
      problems.push(`no ${scope === 'resource' ? 'resource' : 'span'} has ${name}`)
      continue
    }
    const compared = comparedWith(nodes, node)
    if (compared !== undefined && !values.some((value) => typeof value === compared)) {
      problems.push(`${name} is compared with a ${compared} and was sent as "${values[0]}"`)
    }
  }
  return [...new Set(problems)]
}

/** The type of what stands on the other side of the comparison. */
function comparedWith(nodes: Node[], attribute: Node): string | undefined {
  const comparison = nodes.find((node) => {
    const [left, operator] = children(node)
    return operator?.name === 'FieldOp' && left?.from === attribute.from && left?.to === attribute.to
  })
  const [, , right] = comparison ? children(comparison) : []
  const kinds = right ? descendants(right).map(({ name }) => name) : []
  if (kinds.includes('String')) return 'string'
  return kinds.includes('Integer') || kinds.includes('Float') ? 'number' : undefined
}
