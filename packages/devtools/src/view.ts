import { isRecord, type Redactor, type SpanRecord } from '@fastify-observability/observation/internal'
import type { RecordedError } from './error.ts'
import { type OwnFrame, ownFrames } from './source.ts'
import type { Story, StoryHead } from './story.ts'

/** A row of the list. */
export interface RequestRow {
  readonly id: string
  readonly time: string
  readonly method: string
  readonly path: string
  readonly route: string
  /** Of a job `completed` or `failed`; `undefined` while it runs. */
  readonly status: number | string | undefined
  /** Of a job. */
  readonly attempt: number | undefined
  readonly attempts: number | undefined
  readonly durationMs: number | undefined
  readonly ttfbMs: number | undefined
  readonly aborted: boolean
  readonly error: string | undefined
  readonly requestId: string | undefined
  readonly traceId: string | undefined
}

export interface RowFilter {
  /** Part of a route or of a job's name. */
  route?: string | undefined
  /** A status or its beginning: `404`, `5`, `failed`. */
  status?: string | undefined
  slowerThanMs?: number | undefined
  /** Part of anything that the row shows, ids among it. */
  text?: string | undefined
  limit?: number | undefined
}

const MAX_ROWS = 500
const STATEMENTS = ['db.query.text', 'db.statement']
const SYSTEMS = ['db.system.name', 'db.system']
const CLIENT = 2
const KINDS = ['internal', 'server', 'client', 'producer', 'consumer']

export function rowOf({ id, head }: Story, redactor: Redactor): RequestRow {
  const {
    timeMs,
    method,
    url,
    route,
    requestId,
    traceId,
    statusCode,
    result,
    attempt,
    attempts,
    durationMs,
    ttfbMs,
    aborted = false,
    error
  } = head
  return {
    id,
    time: new Date(timeMs).toISOString(),
    method,
    path: redactor.text(url),
    route,
    status: statusCode ?? result,
    attempt,
    attempts,
    durationMs,
    ttfbMs,
    aborted,
    error: error && redactor.text(error),
    requestId: requestId && redactor.text(requestId),
    traceId
  }
}

/** The rows that match, newest first. */
export function rowsOf(stories: Iterable<Story>, redactor: Redactor, filter: RowFilter = {}): RequestRow[] {
  const { route, status, slowerThanMs = 0, text, limit = MAX_ROWS } = filter
  const wanted = text?.toLowerCase()
  const rows: RequestRow[] = []
  for (const story of Array.from(stories).reverse()) {
    if (rows.length >= limit) break
    const row = rowOf(story, redactor)
    if (route && !row.route.includes(route)) continue
    if (status && !String(row.status ?? '').startsWith(status)) continue
    if (slowerThanMs > 0 && (row.durationMs ?? 0) <= slowerThanMs) continue
    if (wanted && !Object.values(row).some((value) => String(value).toLowerCase().includes(wanted))) continue
    rows.push(row)
  }
  return rows
}

/** All that is known of a request or job, without secrets. */
export async function storyOf(
  story: Story,
  stories: ReadonlyMap<string, Story>,
  redactor: Redactor,
  links: Readonly<Record<string, string>>
) {
  const { head, body, unshown } = story
  const { ending, spans, lines, correlationId, spanId, httpVersion, isKept = false, isCut = false } = body
  const causes = story.causes.map((id) => stories.get(id)).filter((cause) => cause !== undefined)
  const jobs = Array.from(stories.values()).filter((job) => job.causes.includes(story.id))
  // Spans have a wall clock of their own, whole milliseconds off.
  const originMs = spans.find(({ id }) => id === spanId)?.startMs ?? head.timeMs
  const clean = (value: unknown): unknown => withoutSecrets(value, redactor)
  return {
    ...rowOf(story, redactor),
    correlationId: correlationId && redactor.text(correlationId),
    spanId,
    httpVersion,
    clientAddress: ending?.clientAddress,
    requestBytes: ending?.requestBytes,
    responseBytes: ending?.responseBytes,
    errorType: ending?.errorType && redactor.text(ending.errorType),
    sentryEventId: ending?.sentryEventId,
    headers: clean(byName(body.headers)),
    responseHeaders: clean(byName(ending?.responseHeaders ?? [])),
    fields: clean(ending?.fields ?? {}),
    errors: await Promise.all((ending?.errors ?? []).map((error) => errorOf(error, redactor))),
    isKept,
    isCut,
    causes: causes.map((cause) => rowOf(cause, redactor)),
    jobs: jobs.map((job) => rowOf(job, redactor)),
    lines: lines.map(({ fields, ...line }) => ({ ...line, fields: clean(ownFields(fields)) })),
    spans: spans
      .toSorted((one, other) => one.startMs - other.startMs)
      .map(({ startMs, kind, attributes, name, ...span }) => ({
        ...span,
        name: redactor.text(name),
        kind: KINDS[kind] ?? 'internal',
        atMs: startMs - originMs,
        attributes: clean(attributes)
      })),
    statements: statementsIn(spans, redactor),
    calls: spans.filter(isCall).map(({ id }) => id),
    unshown,
    links: Object.entries(links).map(([name, template]) => ({ name, url: linkOf(template, head) }))
  }
}

function byName(headers: readonly unknown[]): Record<string, unknown> {
  const found: Record<string, unknown> = {}
  for (let index = 0; index < headers.length; index += 2) found[String(headers[index])] = headers[index + 1]
  return found
}

async function errorOf({ type, message, code, frames }: RecordedError, redactor: Redactor) {
  const own = await ownFrames(frames, process.cwd())
  return {
    type: redactor.text(type),
    message: redactor.text(message),
    code: code && redactor.text(code),
    frames: frames.map(redactor.text),
    own: own.map((frame) => cleanFrame(frame, redactor))
  }
}

// What all lines of a request say, and what the story says elsewhere.
const CONTEXT = new Set(['request_id', 'correlation_id', 'method', 'path', 'trace_id', 'span_id'])

function ownFields(fields: object | undefined): object | undefined {
  return fields && Object.fromEntries(Object.entries(fields).filter(([name]) => !CONTEXT.has(name)))
}

function cleanFrame({ file, line, text, source }: OwnFrame, redactor: Redactor): OwnFrame {
  return {
    file,
    line,
    text: redactor.text(text),
    source: source.map(({ line, text }) => ({ line, text: redactor.text(text) }))
  }
}

/** Each statement once, with how often it was made: a repeated one is often a loop that could be one query. */
function statementsIn(spans: readonly SpanRecord[], redactor: Redactor) {
  const byText = Map.groupBy(
    spans.filter((span) => statementOf(span) !== undefined),
    statementOf
  )
  return Array.from(byText, ([text, made]) => ({
    text: text && redactor.text(text),
    count: made.length,
    durationMs: made.reduce((sum, { durationMs }) => sum + durationMs, 0)
  }))
}

/** Whether it asks another service: taking a connection from a pool is no call. */
function isCall({ kind, attributes }: SpanRecord): boolean {
  return kind === CLIENT && !SYSTEMS.some((name) => attributes[name] !== undefined)
}

function statementOf({ attributes }: SpanRecord): string | undefined {
  const text = STATEMENTS.map((name) => attributes[name]).find((value) => typeof value === 'string')
  return typeof text === 'string' ? text : undefined
}

function linkOf(template: string, { traceId = '', requestId = '' }: StoryHead): string {
  return template
    .replaceAll('{trace_id}', encodeURIComponent(traceId))
    .replaceAll('{request_id}', encodeURIComponent(requestId))
}

/** A copy of a plain value. */
export function withoutSecrets(value: unknown, redactor: Redactor): unknown {
  if (typeof value === 'string') return redactor.text(value)
  if (Array.isArray(value)) return value.map((item) => withoutSecrets(item, redactor))
  if (!isRecord(value)) return value
  const entries = Object.entries(value).map(([name, inner]) => [
    name,
    redactor.isSecretName(name) ? redactor.replacement : withoutSecrets(inner, redactor)
  ])
  return Object.fromEntries(entries)
}
