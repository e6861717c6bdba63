import type { Builder } from '@grafana/grafana-foundation-sdk/cog'
import * as common from '@grafana/grafana-foundation-sdk/common'
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import { PanelBuilder as LogsPanel } from '@grafana/grafana-foundation-sdk/logs'
import { DataqueryBuilder as LokiQuery } from '@grafana/grafana-foundation-sdk/loki'
import { DataqueryBuilder as PrometheusQuery, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as StatPanel } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as TablePanel } from '@grafana/grafana-foundation-sdk/table'
import { PanelBuilder as TimeseriesPanel } from '@grafana/grafana-foundation-sdk/timeseries'

/** A query of a time series: the expression, and what its lines are called. */
export interface Line {
  expr: string
  legend: string
  /** Shows the traces behind the histogram as points. */
  exemplars?: boolean
}

export interface Look {
  unit?: string
  width?: number
  /** Stacked areas: the parts of a whole. */
  stacked?: boolean
  description?: string
  max?: number
}

/** Values from which on a number is yellow, and red. */
export interface Limits {
  warn: number
  bad: number
}

interface Sized {
  width: number
  height: number
}

const PROMETHEUS = { type: 'prometheus', uid: 'prometheus' }
const LOKI = { type: 'loki', uid: 'loki' }
export const TEMPO = { type: 'tempo', uid: 'tempo' }

/** Grafana's grid has 24 columns; on a laptop four panels beside each other can still be read. */
const COLUMNS = 24
const REF_IDS = 'ABCDEFGH'

export type Panel = Builder<dashboard.Panel> & { id(id: number): Panel; gridPos(position: dashboard.GridPos): Panel }
export interface Sketch extends Sized {
  panel: Panel
}

function promQuery({ expr, legend, exemplars = false }: Line, index: number): PrometheusQuery {
  return new PrometheusQuery()
    .refId(REF_IDS.charAt(index))
    .datasource(PROMETHEUS)
    .expr(expr)
    .legendFormat(legend)
    .exemplar(exemplars)
    .range()
}

export function timeseries(title: string, lines: Line[], look: Look = {}): Sketch {
  const { unit = 'short', width = 8, stacked = false, description = '', max } = look
  const panel = new TimeseriesPanel()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .unit(unit)
    .min(0)
    .lineWidth(1)
    .fillOpacity(stacked ? 30 : 8)
    .showPoints(common.VisibilityMode.Never)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true)
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending)
    )
    .targets(lines.map(promQuery))
  if (stacked) panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'))
  if (max !== undefined) panel.max(max)
  return { panel, width, height: 8 }
}

function steps(limits: Limits | undefined): dashboard.Threshold[] {
  if (!limits) return [{ value: null, color: 'text' }]
  const { warn, bad } = limits
  const worsens = bad > warn
  return worsens
    ? [
        { value: null, color: 'green' },
        { value: warn, color: 'yellow' },
        { value: bad, color: 'red' }
      ]
    : [
        { value: null, color: 'red' },
        { value: bad, color: 'yellow' },
        { value: warn, color: 'green' }
      ]
}

function colours(limits: Limits | undefined): Builder<dashboard.ThresholdsConfig> {
  return new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps(limits))
}

/** One number for each line, with its course behind it. */
export function stat(title: string, lines: Line[], look: Look & { limits?: Limits; decimals?: number } = {}): Sketch {
  const { unit = 'short', width = 6, limits, description = '', decimals } = look
  const panel = new StatPanel()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .unit(unit)
    .thresholds(colours(limits))
    .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds))
    .colorMode(common.BigValueColorMode.Value)
    .graphMode(common.BigValueGraphMode.Area)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false).fields(''))
    .targets(lines.map(promQuery))
  if (decimals !== undefined) panel.decimals(decimals)
  return { panel, width, height: 5 }
}

/** A row for each set of the labels that the queries have in common, a column for each query. */
export function table(
  title: string,
  columns: { name: string; expr: string; unit: string }[],
  labels: Record<string, string>,
  { width = COLUMNS, description = '' }: Look = {}
): Sketch {
  const renamed = Object.fromEntries(columns.map(({ name }, index) => [`Value #${REF_IDS.charAt(index)}`, name]))
  const panel = new TablePanel()
    .title(title)
    .description(description)
    .datasource(PROMETHEUS)
    .targets(
      columns.map(({ expr }, index) =>
        new PrometheusQuery()
          .refId(REF_IDS.charAt(index))
          .datasource(PROMETHEUS)
          .expr(expr)
          .format(PromQueryFormat.Table)
          .instant()
      )
    )
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({
      id: 'organize',
      options: { excludeByName: { Time: true }, renameByName: { ...labels, ...renamed } }
    })
  for (const { name, unit } of columns) panel.overrideByName(name, [{ id: 'unit', value: unit }])
  const [first] = columns
  if (first) panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(first.name).desc(true)])
  return { panel, width, height: 9 }
}

function lokiQuery(expr: string, legend: string, index: number): LokiQuery {
  return new LokiQuery()
    .refId(REF_IDS.charAt(index))
    .datasource(LOKI)
    .expr(expr)
    .legendFormat(legend)
    .queryType('range')
}

export function logLines(title: string, expr: string, { height = 12, description = '' } = {}): Sketch {
  const panel = new LogsPanel()
    .title(title)
    .description(description)
    .datasource(LOKI)
    .showTime(true)
    .wrapLogMessage(false)
    .enableLogDetails(true)
    .sortOrder(common.LogsSortOrder.Descending)
    .dedupStrategy(common.LogsDedupStrategy.None)
    .targets([lokiQuery(expr, '', 0)])
  return { panel, width: COLUMNS, height }
}

/** What is counted of log lines. */
export function logCounts(title: string, lines: { expr: string; legend: string }[], look: Look = {}): Sketch {
  const { width = 12, unit = 'short', description = '' } = look
  const panel = new TimeseriesPanel()
    .title(title)
    .description(description)
    .datasource(LOKI)
    .unit(unit)
    .min(0)
    .drawStyle(common.GraphDrawStyle.Bars)
    .fillOpacity(60)
    .stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'))
    .targets(lines.map(({ expr, legend }, index) => lokiQuery(expr, legend, index)))
  return { panel, width, height: 8 }
}

/** A panel of any other kind. */
export function other(panel: Panel, width: number, height: number): Sketch {
  return { panel, width, height }
}

export interface Row {
  /** What the panels answer. */
  question: string
  panels: Sketch[]
}

export interface Page {
  uid: string
  title: string
  description: string
  variables: Builder<dashboard.VariableModel>[]
  rows: Row[]
}

function list(name: string, label: string, query: string, all: string): Builder<dashboard.VariableModel> {
  return new dashboard.QueryVariableBuilder(name)
    .label(label)
    .datasource(PROMETHEUS)
    .query({ query, refId: name })
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue(all)
    .current({ selected: true, text: ['All'], value: ['$__all'] })
}

/** Services, as the targets of Prometheus name them. */
export const SERVICE = list('service', 'Service', 'label_values(up{job="services"}, service)', '.+')
/** Routes that users ask for. */
export const ROUTE = list(
  'route',
  'Route',
  'label_values(http_server_request_duration_seconds_count{service=~"$service", http_route!~"/metrics|/health.*"}, http_route)',
  '.+'
)

/** Puts the panels of each row side by side, the rows under each other, and numbers them. */
export function build({ uid, title, description, variables, rows }: Page): dashboard.Dashboard {
  const board = new dashboard.DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['fastify'])
    .time({ from: 'now-15m', to: 'now' })
    .refresh('10s')
    .timezone('browser')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .readonly()
    .variables(variables)
    .link(
      new dashboard.DashboardLinkBuilder('Fastify')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags(['fastify'])
        .includeVars(true)
        .keepTime(true)
    )
  let id = 0
  let top = 0
  for (const { question, panels } of rows) {
    board.withRow(new dashboard.RowBuilder(question).id(++id).gridPos({ x: 0, y: top, w: COLUMNS, h: 1 }))
    top += 1
    let left = 0
    let lowest = 0
    for (const { panel, width, height } of panels) {
      if (left + width > COLUMNS) {
        top += lowest
        left = 0
        lowest = 0
      }
      board.withPanel(panel.id(++id).gridPos({ x: left, y: top, w: width, h: height }))
      left += width
      lowest = Math.max(lowest, height)
    }
    top += lowest
  }
  return board.build()
}
