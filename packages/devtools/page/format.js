import { html } from './preact.js'

export function milliseconds(value) {
  if (value === undefined || value === null) return ''
  if (value >= 10_000) return `${(value / 1_000).toFixed(1)} s`
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} ms`
}

export function bytes(value) {
  if (value === undefined) return ''
  if (value < 1024) return `${value} B`
  return value < 1024 * 1024 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / 1024 / 1024).toFixed(1)} MiB`
}

/** The time of day where the browser is. */
export function clock(time) {
  const date = new Date(time)
  return `${date.toLocaleTimeString('en-GB')}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

/** A value of any kind, in few characters. */
export function text(value) {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

export function Status({ row }) {
  if (row.status === undefined) return html`<span class="status open">running</span>`
  const kind = row.aborted ? 'aborted' : typeof row.status === 'number' ? `s${String(row.status)[0]}` : row.status
  return html`<span class=${`status ${kind}`}>${row.status}${row.aborted ? ' aborted' : ''}</span>`
}

/** Of a job. */
export function attemptOf({ attempt, attempts }) {
  return `attempt ${attempt}${attempts === undefined ? '' : ` of ${attempts}`}`
}

/** Names and values. */
export function Pairs({ of, label }) {
  const entries = Object.entries(of ?? {}).filter(([, value]) => value !== undefined && value !== null)
  if (entries.length === 0) return html`<p class="none">None.</p>`
  return html`
    <div class="scrolls" role="region" aria-label=${label} tabindex="0">
      <table class="pairs">
        <tbody>
          ${entries.map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${text(value)}</td></tr>`)}
        </tbody>
      </table>
    </div>
  `
}

export function Table({ label, columns, rows }) {
  if (rows.length === 0) return html`<p class="none">Nothing yet.</p>`
  return html`
    <div class="scrolls" role="region" aria-label=${label} tabindex="0">
      <table>
        <thead>
          <tr>
            ${columns.map(({ name, isNumber }) => html`<th scope="col" class=${isNumber ? 'number' : ''}>${name}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                ${columns.map(({ of, isNumber }) => html`<td class=${isNumber ? 'number' : ''}>${of(row)}</td>`)}
              </tr>`
          )}
        </tbody>
      </table>
    </div>
  `
}
