import { attemptOf, bytes, clock, milliseconds, Pairs, Status, text } from './format.js'
import { read } from './live.js'
import { html, useEffect, useState } from './preact.js'

/** All that is known of one request. */
export function Story({ id, live }) {
  const [story, setStory] = useState()
  const [problem, setProblem] = useState()
  const row = live.rows.find((one) => one.id === id)
  useEffect(() => {
    read(`requests/${encodeURIComponent(id)}`).then(setStory, setProblem)
    // Spans of what goes on behind the answer come later.
    const timer = setTimeout(() => read(`requests/${encodeURIComponent(id)}`).then(setStory, () => undefined), 1_000)
    return () => clearTimeout(timer)
  }, [id, row?.status])
  const isJob = story?.method === 'JOB'
  if (problem) return html`<h1>Request</h1><p role="alert">${problem.message}</p>`
  if (!story) return html`<h1>Request</h1><p class="none">Loading …</p>`
  return html`
    <p><a href="#/requests">← All requests</a></p>
    <h1>${story.method} ${story.path} <${Status} row=${story} /></h1>
    <p class="summary">
      ${summaryOf(story, isJob).join(' · ')}
    </p>
    ${
      story.isCut &&
      html`<p role="note">It came too fast: its lines and spans were not recorded, only what its end says.</p>`
    }
    <div class="tools">
      ${!isJob && html`<${CopyAsCurl} story=${story} />`}
      ${story.links.map(({ name, url }) => html`<a href=${url} rel="noreferrer" target="_blank">${name}</a>`)}
    </div>
    ${story.errors.length > 0 && html`<${Errors} errors=${story.errors} />`}
    ${story.causes.length > 0 && html`<h2>Caused by</h2><${Rows} rows=${story.causes} />`}
    ${!story.isCut && html`<h2>Timeline</h2><${Timeline} story=${story} />`}
    ${story.jobs.length > 0 && html`<h2>Jobs</h2><${Rows} rows=${story.jobs} />`}
    ${story.statements.length > 0 && html`<h2>Statements</h2><${Statements} statements=${story.statements} />`}
    ${story.calls.length > 0 && html`<h2>Outgoing calls</h2><${Calls} story=${story} />`}
    <h2>Ids</h2>
    <${Pairs}
      label="Ids"
      of=${{
        'x-request-id': story.requestId,
        'x-correlation-id': story.correlationId,
        trace_id: story.traceId,
        'Sentry event': story.sentryEventId,
        client: story.clientAddress
      }}
    />
    <h2>Added fields</h2>
    <${Pairs} label="Added fields" of=${story.fields} />
    ${
      !isJob &&
      html`<section>
        <h2>Request headers</h2>
        <${Pairs} label="Request headers" of=${story.headers} />
        <h2>Response headers</h2>
        <${Pairs} label="Response headers" of=${story.responseHeaders} />
      </section>`
    }
  `
}

function summaryOf({ time, durationMs, ttfbMs, responseBytes, route, attempt, attempts }, isJob) {
  const parts = [clock(time), milliseconds(durationMs) || 'running']
  if (isJob) return attempt === undefined ? parts : [...parts, attemptOf({ attempt, attempts })]
  return [...parts, `first byte ${milliseconds(ttfbMs) || '–'}`, bytes(responseBytes ?? 0), route]
}

/** Other stories that this one links to. */
function Rows({ rows }) {
  return html`
    <ul class="statements">
      ${rows.map(
        (row) =>
          html`<li>
            <a href=${`#/requests/${row.id}`}>${row.method} ${row.path}</a>
            <${Status} row=${row} />
            <span class="length">${milliseconds(row.durationMs)}</span>
          </li>`
      )}
    </ul>
  `
}

function Errors({ errors }) {
  return html`
    <section class="errors" aria-label="Error">
      ${errors.map(
        ({ type, message, code, own, frames }, index) =>
          html`<article>
            <h2>${index > 0 && html`<span class="cause">caused by </span>`}${type}: ${message} ${code && html`<code>${code}</code>`}</h2>
            ${own.map(
              (frame) =>
                html`<figure>
                  <figcaption>${frame.file}:${frame.line}</figcaption>
                  <pre tabindex="0" aria-label=${`Source of ${frame.file}`}>${frame.source.map(
                    ({ line, text }) =>
                      html`<span class=${line === frame.line ? 'here' : ''}>${String(line).padStart(5)}  ${text}</span>`
                  )}</pre>
                </figure>`
            )}
            ${
              frames.length > 0 &&
              html`<details><summary>Whole stack</summary><pre tabindex="0">${frames.join('\n')}</pre></details>`
            }
          </article>`
      )}
    </section>
  `
}

/** Spans and lines on one axis. */
function Timeline({ story }) {
  const spans = inTree(story.spans)
  const ends = [...spans.map(({ atMs, durationMs }) => atMs + durationMs), ...story.lines.map(({ atMs }) => atMs)]
  const from = Math.min(0, ...spans.map(({ atMs }) => atMs))
  const whole = Math.max(0.1, story.durationMs ?? 0, ...ends) - from
  const left = (atMs) => `${Math.min(100, (100 * (atMs - from)) / whole).toFixed(2)}%`
  return html`
    <div class="axis" aria-hidden="true">
      ${[0, 0.25, 0.5, 0.75, 1].map((part) => html`<span>${milliseconds(from + part * whole)}</span>`)}
    </div>
    <ul class="spans" aria-label="Spans">
      ${spans.map(
        (span) =>
          html`<li>
            <details>
              <summary>
                <span class="name" style=${{ paddingLeft: `${span.depth}em` }}>${span.name}</span>
                <span class="track">
                  <span
                    class=${`span ${span.kind} ${span.isError ? 'failed' : ''}`}
                    style=${{ left: left(span.atMs), width: `${Math.max(0.3, (100 * span.durationMs) / whole).toFixed(2)}%` }}
                  ></span>
                </span>
                <span class="length">${milliseconds(span.durationMs)}</span>
              </summary>
              <${Pairs} label=${`Attributes of ${span.name}`} of=${span.attributes} />
            </details>
          </li>`
      )}
    </ul>
    ${story.spans.length === 0 && html`<p class="none">No spans: tracing is off, or not sampled.</p>`}
    <ul class="lines" aria-label="Lines">
      ${story.lines.map(
        ({ atMs, level, message, fields, isWritten }) =>
          html`<li class=${isWritten ? '' : 'below'}>
            <span class=${`level ${level}`}>${level}</span>
            <span class="message">
              ${message} ${!isWritten && html`<small>below the level${story.isKept ? ', kept' : ''}</small>`}
            </span>
            <span class="track"><span class="dot" style=${{ left: left(atMs) }}></span></span>
            <span class="length">${milliseconds(atMs)}</span>
            ${fields && Object.keys(fields).length > 0 && html`<code>${shortened(fields)}</code>`}
          </li>`
      )}
    </ul>
    ${story.unshown > 0 && html`<p class="none">${story.unshown} more lines or spans were too many to keep.</p>`}
  `
}

/** Each span behind its parent, with how deep it is. */
function inTree(spans) {
  const ids = new Set(spans.map(({ id }) => id))
  const children = Map.groupBy(spans, ({ parentId }) => (ids.has(parentId) ? parentId : ''))
  const below = (id, depth) =>
    (children.get(id) ?? []).flatMap((span) => [{ ...span, depth }, ...below(span.id, depth + 1)])
  return below('', 0)
}

function shortened({ err, ...fields }) {
  const all = err ? { ...fields, err: err.message ?? err } : fields
  return Object.entries(all)
    .map(([name, value]) => `${name}=${text(value)}`)
    .join(' ')
    .slice(0, 400)
}

function Statements({ statements }) {
  return html`
    <ul class="statements">
      ${statements.map(
        ({ text, count, durationMs }) =>
          html`<li>
            <code>${text}</code>
            ${count > 1 && html`<strong class="badge">${count} times</strong>`}
            <span class="length">${milliseconds(durationMs)}</span>
          </li>`
      )}
    </ul>
  `
}

function Calls({ story }) {
  const calls = story.spans.filter(({ id }) => story.calls.includes(id))
  return html`
    <ul class="statements">
      ${calls.map(
        ({ name, attributes, durationMs, isError }) =>
          html`<li class=${isError ? 'failed' : ''}>
            <code>${attributes['url.full'] ?? name}</code>
            <span>${attributes['http.response.status_code']}</span>
            <span class="length">${milliseconds(durationMs)}</span>
          </li>`
      )}
    </ul>
  `
}

// What curl sets itself, and what was taken out.
const UNSENT = /^(?:host|connection|content-length|accept-encoding)$/

function CopyAsCurl({ story }) {
  const [isCopied, setCopied] = useState(false)
  const quoted = (part) => `'${String(part).replaceAll("'", `'\\''`)}'`
  const headers = Object.entries(story.headers).filter(([name]) => !UNSENT.test(name) && !name.startsWith('sec-'))
  const url = `${location.origin}${story.path}`
  const command = [
    `curl -i ${story.method === 'GET' ? '' : `-X ${story.method} `}${quoted(url)}`,
    ...headers.map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`)
  ].join(' \\\n  ')
  async function copy() {
    await navigator.clipboard.writeText(command)
    setCopied(true)
  }
  return html`<button type="button" title=${command} onClick=${copy}>${isCopied ? 'Copied' : 'Copy as curl'}</button>`
}
