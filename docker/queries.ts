import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parser as logQl } from '@grafana/lezer-logql'
import { parser as traceQl } from '@grafana/lezer-traceql'
import { parser as promQl } from '@prometheus-io/lezer-promql'
import { parse } from 'yaml'

type Language = 'PromQL' | 'LogQL' | 'TraceQL'

/** An expression of the stack, and where it stands. */
export interface Query {
  where: string
  language: Language
  /** As it is written, with Grafana's variables in it. */
  written: string
  /** As it is run: with values for the variables. */
  expr: string
}

export interface Rule extends Query {
  /** The series that the rule records, or the alert that it raises. */
  name: string
  isAlert: boolean
}

interface Target {
  expr?: string
  query?: string
  queryType?: string
  datasource: { type: string }
}
interface Dashboard {
  title: string
  panels: { title: string; targets?: Target[] }[]
}
interface RuleFile {
  groups: { rules: { record?: string; alert?: string; expr: string }[] }[]
}

const HERE = fileURLToPath(new URL('.', import.meta.url))
const LANGUAGES: Record<string, Language> = { prometheus: 'PromQL', loki: 'LogQL', tempo: 'TraceQL' }
const PARSERS = { PromQL: promQl, LogQL: logQl, TraceQL: traceQl }
/** What Grafana puts in: all services, all routes, and a range of four scrapes at least. */
const VALUES: [RegExp, string][] = [
  // How a provisioned file writes one dollar.
  [/\$\$/g, '$'],
  [/\$__rate_interval|\$__auto/g, '1m'],
  [/\$(service|route|level)\b/g, '.+'],
  [/\$text\b/g, ''],
  [/\$\{__value\.raw\}|\$\{__trace\.traceId\}/g, '4bf92f3577b34da6a3ce929d0e0e4736']
]

function query(where: string, language: Language, written: string): Query {
  let expr = written
  for (const [variable, value] of VALUES) expr = expr.replace(variable, value)
  return { where, language, written, expr }
}

/** A query behind a link of a span: Grafana puts in the span's attributes, under the names that the link gives them. */
function linkQuery(where: string, language: Language, written: string, tags: { value: string }[]): Query {
  const matchers = tags.map(({ value }) => `${value}="orders"`).join(', ')
  return { ...query(where, language, written.replace(/\$\$(\{__tags\}|__tags)/g, matchers)), written }
}

/** The queries of all panels; a service graph has none of its own. */
export function panelQueries(): Query[] {
  return globSync(`${HERE}grafana/dashboards/*.json`)
    .sort()
    .flatMap((file) => {
      const { title, panels }: Dashboard = JSON.parse(readFileSync(file, 'utf8'))
      return panels.flatMap((panel) =>
        (panel.targets ?? []).flatMap(({ expr, query: traceql, queryType, datasource: { type } }) => {
          const language = LANGUAGES[type]
          if (!language) throw new Error(`${title}, ${panel.title}: nothing is known of queries of ${type}`)
          if (queryType === 'serviceMap') return []
          return [query(`${title}, ${panel.title}`, language, expr ?? traceql ?? '')]
        })
      )
    })
}

/** The queries behind the links of the data sources. */
export function linkQueries(): Query[] {
  const { datasources } = parse(readFileSync(`${HERE}grafana/provisioning/datasources/datasources.yaml`, 'utf8'))
  const { jsonData } = datasources.find(({ uid }: { uid: string }) => uid === 'tempo')
  const { tracesToLogsV2, tracesToMetrics } = jsonData
  return [
    linkQuery('Tempo, trace to logs', 'LogQL', tracesToLogsV2.query, tracesToLogsV2.tags),
    ...tracesToMetrics.queries.map((link: { name: string; query: string }) =>
      linkQuery(`Tempo, trace to metrics, ${link.name}`, 'PromQL', link.query, tracesToMetrics.tags)
    )
  ]
}

/** What Grafana opens of a span in Pyroscope. */
export function profileLink(): { profileTypeId: string; tags: { key: string; value: string }[] } {
  const { datasources } = parse(readFileSync(`${HERE}grafana/provisioning/datasources/datasources.yaml`, 'utf8'))
  return datasources.find(({ uid }: { uid: string }) => uid === 'tempo').jsonData.tracesToProfiles
}

export function rules(): Rule[] {
  return globSync(`${HERE}prometheus/rules/*.yaml`)
    .sort()
    .flatMap((file) => {
      const { groups }: RuleFile = parse(readFileSync(file, 'utf8'))
      return groups.flatMap((group) =>
        group.rules.map(({ record, alert, expr }) => {
          const name = record ?? alert ?? ''
          return { ...query(`rule ${name}`, 'PromQL', expr), name, isAlert: alert !== undefined }
        })
      )
    })
}

/** The attributes that the configurations of Tempo and Grafana name, those that name a peer left out: most services have one of them. */
export function configuredAttributes(): { where: string; name: string }[] {
  const { processor } = parse(readFileSync(`${HERE}tempo.yaml`, 'utf8')).metrics_generator
  const { datasources } = parse(readFileSync(`${HERE}grafana/provisioning/datasources/datasources.yaml`, 'utf8'))
  const { jsonData } = datasources.find(({ uid }: { uid: string }) => uid === 'tempo')
  const { tracesToLogsV2, tracesToMetrics, tracesToProfiles, spanBar } = jsonData
  const tags: { key: string }[] = [...tracesToLogsV2.tags, ...tracesToMetrics.tags, ...tracesToProfiles.tags]
  return [
    ...processor.span_metrics.dimensions.map((name: string) => ({ where: 'tempo.yaml, span_metrics', name })),
    ...tags.map(({ key }) => ({ where: 'the links of the data source Tempo', name: key })),
    { where: 'the span bar of the data source Tempo', name: spanBar.tag }
  ]
}

/** What the grammar does not take, with the place; empty for a query that parses. */
export function syntaxErrors({ language, expr }: Query): string[] {
  const errors: string[] = []
  PARSERS[language].parse(expr).iterate({
    enter({ type, from, to }) {
      if (type.isError) errors.push(`at ${from}: "${expr.slice(from, Math.max(to, from + 20))}"`)
    }
  })
  return errors
}

/** The names of the series that a PromQL expression reads. */
export function metricNames(expr: string): string[] {
  const names = new Set<string>()
  promQl.parse(expr).iterate({
    enter({ node }) {
      if (node.name === 'VectorSelector' && node.firstChild?.name === 'Identifier') {
        names.add(expr.slice(node.firstChild.from, node.firstChild.to))
      }
    }
  })
  return [...names].filter((name) => name !== 'ALERTS')
}
