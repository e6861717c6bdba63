import { execFile, spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'tap'
import { parse } from 'yaml'
import { rules } from '../queries.ts'

const run = promisify(execFile)
const FOLDER = fileURLToPath(new URL('../prometheus', import.meta.url))
const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const NO_PROMTOOL = spawnSync('promtool', ['--version']).error !== undefined && 'promtool is not on the PATH'
const NO_AMTOOL = spawnSync('amtool', ['--version']).error !== undefined && 'amtool is not on the PATH'

interface Alert {
  alert: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}
const alerts: Alert[] = parse(readFileSync(`${FOLDER}/rules/alerts.yaml`, 'utf8')).groups.flatMap(
  ({ rules }: { rules: Alert[] }) => rules
)

test('has a configuration and rules that Prometheus takes', { skip: NO_PROMTOOL }, async (t) => {
  const { stdout } = await run('promtool', ['check', 'config', 'prometheus.yaml'], { cwd: FOLDER })
  t.match(stdout, 'prometheus.yaml is valid')
  t.match(stdout, '2 rule files found')
})

// The budgets need series of hours and days, which take long: they are in `rules.long.test.ts`.
for (const file of globSync('tests/*.yaml', { cwd: FOLDER, exclude: ['**/budgets*.yaml'] }).sort()) {
  test(`raises the alerts that ${file} expects`, { skip: NO_PROMTOOL }, async (t) => {
    const { stdout, stderr } = await run('promtool', ['test', 'rules', file], { cwd: FOLDER }).catch((error) => error)
    t.match(stdout, 'SUCCESS', `${stdout}${stderr}`)
  })
}

test('expects every alert in a test, raised and not raised', async (t) => {
  const tested: Record<string, Set<boolean>> = {}
  for (const file of globSync(`${FOLDER}/tests/*.yaml`)) {
    for (const { alert_rule_test = [] } of parse(readFileSync(file, 'utf8'), { merge: true }).tests) {
      for (const { alertname, exp_alerts = [] } of alert_rule_test) {
        tested[alertname] ??= new Set()
        tested[alertname].add(exp_alerts.length > 0)
      }
    }
  }
  for (const { alert } of alerts) t.same([...(tested[alert] ?? [])].sort(), [false, true], alert)
})

test('sends each alert to a section of the runbook that exists', async (t) => {
  const sections = [...README.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) => title.toLowerCase().replaceAll(' ', '-'))
  for (const { alert, annotations, labels } of alerts) {
    const [file, section = ''] = annotations.runbook.split('#')
    t.equal(file, 'docker/README.md', alert)
    t.ok(sections.includes(section), `${alert}: ${section}`)
    t.ok(annotations.summary.length > 20 && ['page', 'ticket'].includes(labels.severity), alert)
  }
})

test('has a configuration that Alertmanager takes', { skip: NO_AMTOOL }, async (t) => {
  const { stdout } = await run('amtool', ['check-config', `${FOLDER}/../alertmanager.yaml`])
  t.match(stdout, 'SUCCESS')
})

test('records no series that another rule records', async (t) => {
  const names = rules().map(({ name }) => name)
  t.equal(new Set(names).size, names.length)
})
