import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { parse } from 'yaml'
import { dashboards, written } from '../grafana/dashboards.ts'
import { linkQueries, panelQueries, rules, syntaxErrors } from '../queries.ts'

const read = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
const { datasources } = parse(read('grafana/provisioning/datasources/datasources.yaml'))
const source = (uid: string) => datasources.find((known: { uid: string }) => known.uid === uid)
const panels = Object.values(dashboards).flatMap(({ title, panels = [] }) => panels.map((panel) => ({ title, panel })))

test('has committed the dashboards that it generates', async (t) => {
  for (const [name, dashboard] of Object.entries(dashboards)) {
    t.equal(
      read(`grafana/dashboards/${name}.json`),
      written(dashboard),
      `node docker/grafana/dashboards.ts writes ${name}.json`
    )
  }
})

for (const query of [...panelQueries(), ...linkQueries(), ...rules()]) {
  test(`parses the ${query.language} of ${query.where}`, async (t) => {
    t.not(query.expr, '')
    t.same(syntaxErrors(query), [], query.expr)
  })
}

test('finds what the grammars do not take', async (t) => {
  const broken = { where: 'here', written: '' }
  t.ok(syntaxErrors({ ...broken, language: 'PromQL', expr: 'sum(rate(up[5m])' }).length > 0)
  t.ok(syntaxErrors({ ...broken, language: 'LogQL', expr: '{service_name="orders"} |=' }).length > 0)
  t.ok(syntaxErrors({ ...broken, language: 'TraceQL', expr: '{ status = }' }).length > 0)
})

test('replaces every variable of Grafana before it parses', async (t) => {
  t.same(
    [...panelQueries(), ...linkQueries()].filter(({ expr }) => expr.includes('$')),
    []
  )
})

test('names only data sources that are provisioned, in panels, variables and links', async (t) => {
  const text = [
    ...Object.values(dashboards).map(written),
    read('grafana/provisioning/datasources/datasources.yaml')
  ].join('\n')
  const named = new Set([...text.matchAll(/(?:"uid": "|datasourceUid: )([\w-]+)/g)].map(([, uid]) => uid))
  const known = datasources.map(({ uid }: { uid: string }) => uid)
  t.same(
    [...named].filter((uid) => !known.includes(uid) && !(uid && uid in dashboards)),
    []
  )
  t.same(known.sort(), ['loki', 'prometheus', 'pyroscope', 'tempo'])
})

test('links exemplars to traces, traces to logs, metrics and the service graph, and log lines to traces', async (t) => {
  t.match(source('prometheus').jsonData.exemplarTraceIdDestinations, [{ name: 'trace_id', datasourceUid: 'tempo' }])
  const { tracesToLogsV2, tracesToMetrics, serviceMap } = source('tempo').jsonData
  t.same(
    [tracesToLogsV2.datasourceUid, tracesToMetrics.datasourceUid, serviceMap.datasourceUid],
    ['loki', 'prometheus', 'prometheus']
  )
  t.match(tracesToLogsV2, { spanStartTimeShift: /^-[1-9]/, spanEndTimeShift: /^[1-9]/ })
  t.match(source('loki').jsonData.derivedFields, [
    { matcherType: 'label', matcherRegex: 'trace_id', datasourceUid: 'tempo' }
  ])
})

test('links spans to their flame graphs, by the profile that the services push', async (t) => {
  const { tracesToProfiles } = source('tempo').jsonData
  t.equal(source(tracesToProfiles.datasourceUid).type, 'grafana-pyroscope-datasource')
  t.equal(tracesToProfiles.profileTypeId, 'wall:cpu:nanoseconds:wall:nanoseconds')
  t.same(tracesToProfiles.tags, [{ key: 'service.name', value: 'service_name' }])
})

test('writes every dollar of a link twice, or Grafana takes it for a variable of the environment', async (t) => {
  const text = read('grafana/provisioning/datasources/datasources.yaml').replace(/^ *#.*$/gm, '')
  t.notMatch(text, /(?<!\$)\$(?!\$)[{_a-z]/)
})

test('shows exemplars in the latency of the service overview', async (t) => {
  const latency = panels.find(({ title, panel }) => title === 'Service overview' && panel.title === 'Latency')
  t.match(latency?.panel, { targets: [{}, {}, { exemplar: true, expr: /^histogram_quantile\(0\.99/ }] })
})

test('gives every panel a number, a place of its own and a title; every query a letter', async (t) => {
  for (const { title = '', panels = [] } of Object.values(dashboards)) {
    t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, `${title} numbers them`)
    const cells = panels.flatMap(({ gridPos }) =>
      gridPos
        ? Array.from(
            { length: gridPos.w * gridPos.h },
            (_, n) => `${gridPos.x + (n % gridPos.w)},${gridPos.y + Math.floor(n / gridPos.w)}`
          )
        : []
    )
    t.equal(new Set(cells).size, cells.length, `${title} has none over another`)
    t.notOk(
      cells.some((cell) => Number.parseInt(cell, 10) > 23),
      `${title} fits`
    )
    t.same(
      panels.filter(({ title, id }) => !title || !id),
      [],
      `${title} names them`
    )
  }
  const targets = panels.flatMap(({ panel }) => ('targets' in panel ? (panel.targets ?? []) : []))
  t.same(
    targets.filter((target) => !('refId' in target && target.refId)),
    []
  )
})

test('opens each row with the question that its panels answer', async (t) => {
  for (const { title = '', panels = [] } of Object.values(dashboards)) {
    const rows = panels.filter(({ type }) => type === 'row')
    t.equal(panels[0]?.type, 'row', title)
    t.same(
      rows.filter((row) => !row.title?.includes('?')),
      [],
      title
    )
  }
})

test('filters every dashboard by service', async (t) => {
  for (const { title = '', templating } of Object.values(dashboards)) {
    t.ok(
      templating?.list?.some(({ name }) => name === 'service'),
      title
    )
  }
  t.ok(dashboards['service-overview']?.templating?.list?.some(({ name }) => name === 'route'))
})
