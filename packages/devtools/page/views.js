import { Chart } from './chart.js'
import { bytes, clock, milliseconds, Pairs, Table, text } from './format.js'
import { usePolled } from './live.js'
import { html, useState } from './preact.js'

const EVERY_MS = 2_000

function Loading({ title, error }) {
  return html`<h1>${title}</h1><p class="none" role="status">${error ? error.message : 'Loading …'}</p>`
}

/** Rate, errors and durations, of the histograms that `/metrics` shows. */
export function Routes() {
  const { data, before, error } = usePolled('routes', EVERY_MS)
  if (!data) return html`<${Loading} title="Routes" error=${error} />`
  const known = new Map(before?.rows.map((row) => [`${row.method} ${row.route}`, row.count]))
  const seconds = before ? (data.timeMs - before.timeMs) / 1_000 : data.uptimeS
  const rate = (row) => (row.count - (known.get(`${row.method} ${row.route}`) ?? 0)) / seconds
  return html`
    <h1>Routes</h1>
    <p class="none">Percentiles since the start of the service, as Prometheus computes them from the same buckets.</p>
    <${Table}
      label="Routes"
      rows=${data.rows}
      columns=${[
        { name: 'Route', of: (row) => `${row.method} ${row.route}` },
        { name: 'Requests', of: (row) => row.count, isNumber: true },
        { name: 'Per second', of: (row) => rate(row).toFixed(2), isNumber: true },
        { name: 'Errors', of: (row) => `${((100 * row.errors) / row.count).toFixed(1)} %`, isNumber: true },
        { name: 'p50', of: (row) => milliseconds(row.p50Ms), isNumber: true },
        { name: 'p95', of: (row) => milliseconds(row.p95Ms), isNumber: true },
        { name: 'p99', of: (row) => milliseconds(row.p99Ms), isNumber: true }
      ]}
    />
  `
}

const MIB = 1024 * 1024
const CHARTS = [
  { title: 'Event loop delay, p99', unit: 'ms', series: { delay: ({ delayMs }) => delayMs } },
  { title: 'Event loop utilisation', unit: '%', series: { busy: ({ utilization }) => 100 * utilization } },
  {
    title: 'Memory',
    unit: 'MiB',
    series: { heap: ({ heapBytes }) => heapBytes / MIB, rss: ({ rssBytes }) => rssBytes / MIB }
  },
  { title: 'Garbage collection', unit: 'ms', series: { gc: ({ gcMs }) => gcMs } },
  { title: 'Active handles', unit: '', series: { handles: ({ handles }) => handles } }
]

export function Runtime() {
  const { data, error } = usePolled('runtime', EVERY_MS)
  if (!data) return html`<${Loading} title="Runtime" error=${error} />`
  return html`
    <h1>Runtime</h1>
    <p class="none">The last five minutes.</p>
    <div class="charts">
      ${CHARTS.map((chart) => html`<${Chart} key=${chart.title} ...${chart} samples=${data.samples} />`)}
    </div>
  `
}

export function Health() {
  const { data, error } = usePolled('health', EVERY_MS)
  if (!data) return html`<${Loading} title="Health" error=${error} />`
  return html`
    <h1>Health <span class=${`state ${data.status}`}>${data.status.replace('_', ' ')}</span></h1>
    <p>${data.draining ? 'The service is shutting down.' : data.started ? 'Started.' : 'Not started yet.'}</p>
    <${Table}
      label="Checks"
      rows=${Object.entries(data.checks)}
      columns=${[
        { name: 'Check', of: ([name]) => name },
        { name: 'State', of: ([, { state }]) => html`<span class=${`state ${state}`}>${state}</span>` },
        { name: 'Critical', of: ([, { critical }]) => (critical ? 'yes' : 'no') },
        { name: 'Took', of: ([, { durationMs }]) => milliseconds(durationMs), isNumber: true },
        { name: 'Reason', of: ([, { error, details }]) => error ?? (details && text(details)) }
      ]}
    />
  `
}

export function Delivery() {
  const { data, error } = usePolled('delivery', EVERY_MS)
  if (!data) return html`<${Loading} title="Delivery" error=${error} />`
  const lost = ({ dropped }) => Object.entries(dropped).map(([reason, count]) => `${count} ${reason}`)
  return html`
    <h1>Delivery</h1>
    <p class="none">Produced is delivered, dropped and waiting together.</p>
    <${Table}
      label="Destinations"
      rows=${data.destinations}
      columns=${[
        { name: 'Destination', of: ({ to }) => to },
        { name: 'Items', of: ({ signal }) => signal },
        { name: 'Produced', of: ({ produced }) => produced, isNumber: true },
        { name: 'Delivered', of: ({ delivered }) => delivered, isNumber: true },
        { name: 'Dropped', of: (row) => lost(row).join(', ') || 0, isNumber: true },
        { name: 'Waiting', of: ({ waiting }) => waiting, isNumber: true },
        {
          name: 'Last error',
          of: ({ lastError }) => (lastError ? `${lastError.reason} at ${clock(lastError.timeMs)}` : 'none')
        }
      ]}
    />
  `
}

export function Setup() {
  const { data, error } = usePolled('setup', 5 * EVERY_MS)
  const [all, setAll] = useState(true)
  if (!data) return html`<${Loading} title="Set-up" error=${error} />`
  const wrong = data.notices.filter(({ level }) => level !== 'info')
  return html`
    <h1>Set-up</h1>
    <h2>What looks wrong</h2>
    ${wrong.length === 0 ? html`<p class="none">Nothing.</p>` : html`<${Notices} label="What looks wrong" notices=${wrong} />`}
    <h2>Where signals go</h2>
    <${Table}
      label="Signals"
      rows=${Object.entries(data.signals)}
      columns=${[
        { name: 'Signal', of: ([name]) => name },
        { name: 'Goes to', of: ([, { to }]) => to.join(', ') || 'nowhere' },
        { name: 'To send it further', of: ([, { hint }]) => hint }
      ]}
    />
    <h2>What is instrumented</h2>
    <${Table}
      label="What is instrumented"
      rows=${
        data.instrumentation.some(({ what }) => what.includes('too early'))
          ? data.instrumentation
          : [...data.instrumentation, { what: 'loaded too early', names: 'nothing' }]
      }
      columns=${[{ name: 'State', of: ({ what }) => what }, { name: 'Packages', of: ({ names }) => names }]}
    />
    <h2>Kept of the service's own configuration</h2>
    ${
      data.kept.length === 0
        ? html`<p class="none">The service has set nothing of its own.</p>`
        : html`<ul>${data.kept.map((setting) => html`<li>${setting}</li>`)}</ul>`
    }
    <h2>Options</h2>
    <label class="check">
      <input type="checkbox" checked=${!all} onChange=${() => setAll(!all)} /> only those that are set
    </label>
    <${Table}
      label="Options"
      rows=${data.options.filter(({ from }) => all || from !== 'default')}
      columns=${[
        { name: 'Option', of: ({ part, option }) => (part === 'observability' ? option : `${part}.${option}`) },
        { name: 'Value', of: ({ value }) => text(value) },
        { name: 'From', of: ({ from }) => from }
      ]}
    />
    <h2>Variables</h2>
    <${Pairs} label="Variables" of=${Object.fromEntries(data.variables.map(({ name, value }) => [name, value]))} />
    <h2>Said at the start</h2>
    <${Notices} label="Said at the start" notices=${data.notices.filter(({ level }) => level === 'info')} />
    <p class="none">Node ${data.node}, ${bytes(data.keptBytes)} of stories kept.</p>
  `
}

function Notices({ label, notices }) {
  return html`<${Table}
    label=${label}
    rows=${notices}
    columns=${[
      { name: 'Time', of: ({ time }) => clock(time) },
      { name: 'Level', of: ({ level }) => level },
      { name: 'Message', of: ({ message }) => message },
      { name: 'Fields', of: ({ fields }) => fields && text(fields) }
    ]}
  />`
}
