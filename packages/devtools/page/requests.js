import { attemptOf, clock, milliseconds, Status } from './format.js'
import { html, useState } from './preact.js'

const FILTERS = [
  { name: 'route', label: 'Route or job', matches: (row, wanted) => row.route.includes(wanted) },
  { name: 'status', label: 'Status', matches: (row, wanted) => String(row.status ?? '').startsWith(wanted) },
  { name: 'slower', label: 'Slower than, ms', matches: (row, wanted) => (row.durationMs ?? 0) > Number(wanted) },
  {
    name: 'text',
    label: 'Text or id',
    matches: (row, wanted) => JSON.stringify(Object.values(row)).toLowerCase().includes(wanted.toLowerCase())
  }
]

/** The list of requests and jobs, live. */
export function Requests({ live }) {
  const [filters, setFilters] = useState({})
  const [paused, setPaused] = useState()
  const wanted = FILTERS.filter(({ name }) => filters[name])
  const rows = (paused ?? live.rows).filter((row) => wanted.every(({ name, matches }) => matches(row, filters[name])))
  const longest = Math.max(1, ...rows.map(({ durationMs = 0 }) => durationMs))
  return html`
    <h1>Requests</h1>
    <form class="filters" onSubmit=${(event) => event.preventDefault()}>
      ${FILTERS.map(
        ({ name, label }) =>
          html`<label>
            ${label}
            <input
              name=${name}
              value=${filters[name] ?? ''}
              onInput=${({ target }) => setFilters({ ...filters, [name]: target.value })}
            />
          </label>`
      )}
      <button type="button" aria-pressed=${paused ? 'true' : 'false'} onClick=${() => setPaused(paused ? undefined : live.rows)}>
        ${paused ? 'Resume' : 'Pause'}
      </button>
    </form>
    ${
      live.unrecorded > 0 &&
      html`<p class="none" role="status">
        ${live.unrecorded.toLocaleString('en')} requests or jobs came too fast to be recorded.
      </p>`
    }
    ${rows.length === 0 && html`<p class="none">No request ${wanted.length > 0 ? 'matches' : 'yet: send one'}.</p>`}
    <table class="requests">
      <caption class="hidden">The last requests and jobs, newest first</caption>
      <thead class=${rows.length === 0 ? 'hidden' : ''}>
        <tr>
          <th scope="col">Time</th>
          <th scope="col">Request</th>
          <th scope="col">Status</th>
          <th scope="col">Duration</th>
          <th scope="col">Error</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map((row) => html`<${Row} key=${row.id} row=${row} longest=${longest} />`)}
      </tbody>
    </table>
  `
}

function Row({ row, longest }) {
  return html`
    <tr>
      <td class="time">${clock(row.time)}</td>
      <td class="request">
        <a href=${`#/requests/${row.id}`}>${row.method} ${row.path}</a>
        ${row.route !== row.path && html`<span class="route">${row.route}</span>`}
        ${row.attempt !== undefined && html`<span class="route">${attemptOf(row)}</span>`}
      </td>
      <td><${Status} row=${row} /></td>
      <td class="duration">
        <span class="bar" aria-hidden="true">
          <span class="whole" style=${{ width: share(row.durationMs, longest) }}></span>
          ${row.ttfbMs !== undefined && html`<span class="first-byte" style=${{ left: share(row.ttfbMs, longest) }}></span>`}
        </span>
        <span>${milliseconds(row.durationMs)}</span>
      </td>
      <td class="error">${row.error}</td>
    </tr>
  `
}

function share(value = 0, whole = 1) {
  return `${((100 * value) / whole).toFixed(2)}%`
}
