import type { JobOutcome, Outcome } from '@fastify-observability/observation'
import {
  clearTimeout,
  currentScope,
  type FinishedSpan,
  isRecord,
  type JobObservation,
  type MetricReader,
  type PartJobObserver,
  type PartObserver,
  type Registry,
  type RequestObservation,
  type SpanReceiver,
  setTimeout
} from '@fastify-observability/observation/internal'
import { TraceFlags, trace } from '@opentelemetry/api'
import { changesOf, isGauge, NO_POINTS, type Points, pointsOf } from './points.ts'
import type { SeenEvent, SeenJob, SeenLine, SeenPoint, SeenRequest, SeenSignals, SeenSpan } from './seen.ts'
import { seenSpan } from './spans.ts'

type Work = RequestObservation | JobObservation

/** The signals of a request or job, while they come. */
type Draft = { -readonly [Name in keyof SeenSignals]: SeenSignals[Name] } & {
  readonly lines: SeenLine[]
  readonly spans: SeenSpan[]
  readonly events: SeenEvent[]
}

/** A request or job, and what is known of it so far. */
interface Entry {
  readonly work: Work
  readonly draft: Draft
  /** The metrics when its end began. */
  before: Points
  /** Whether its observers are being called. */
  isEnding: boolean
  /** Lists it, when its event has come too. */
  list: (() => void) | undefined
  /** How many of its events were dropped since its end began. */
  drops: number
}

/** What is seen of an app. */
export interface Collection {
  readonly requests: SeenRequest[]
  readonly jobs: SeenJob[]
  readonly lines: SeenLine[]
  readonly spans: SeenSpan[]
  readonly events: SeenEvent[]
  /** What has begun and is not listed yet, in words. */
  open(): string[]
  readonly observers: readonly (PartObserver | PartJobObserver)[]
  readonly receivers: {
    line(text: string): void
    readonly span: SpanReceiver
    event(event: object | undefined): void
    points(reader: MetricReader): void
  }
  readonly reader: MetricReader | undefined
  clear(): void
  stop(): void
}

const NAME = 'fastify-observability/testing'
/** An event comes within milliseconds, or as late as a hook of the application's or a starved machine makes it. */
const EVENT_MS = 30_000

/** @param changed called when something new is seen. */
export function createCollection({ jobs }: Registry, changed: () => void): Collection {
  // By what the other parts hold: nothing here keeps a request that is over.
  const entries = new WeakMap<Work, Entry>()
  const open = new Set<Entry>()
  const known: Entry[] = []
  const owners = new Map<string, Entry>()
  /** Spans of other apps. */
  const others = new Set<string>()
  let reader: MetricReader | undefined
  const orders = new WeakMap<object, number>()
  let ended = 0
  let isStopped = false

  const collection: Collection = {
    requests: [],
    jobs: [],
    lines: [],
    spans: [],
    events: [],
    open: () => Array.from(open, wordsOf),
    observers: [
      { name: NAME, ends: 'first', start: begin, end: beginEnd },
      { name: NAME, ends: 'last', end: endRequest },
      { name: NAME, kind: 'job', ends: 'first', start: begin, end: beginEnd },
      { name: NAME, kind: 'job', ends: 'last', end: endJob }
    ],
    receivers: {
      line: receiveLine,
      span: { onStart: claim, onEnd: receiveSpan },
      event: receiveEvent,
      points(given) {
        reader = given
      }
    },
    get reader() {
      return reader
    },
    clear() {
      const { requests, jobs, lines, spans, events } = collection
      for (const list of [requests, jobs, lines, spans, events]) list.length = 0
      known.splice(0, known.length, ...open)
      for (const [id, entry] of owners) if (!open.has(entry)) owners.delete(id)
      others.clear()
    },
    stop() {
      isStopped = true
      open.clear()
    }
  }

  function begin(work: Work): void {
    if (isStopped) return
    const draft: Draft = {
      line: undefined,
      lines: [],
      span: undefined,
      spans: [],
      metrics: undefined,
      event: undefined,
      events: []
    }
    const entry = { work, draft, before: NO_POINTS, isEnding: false, list: undefined, drops: 0 }
    entries.set(work, entry)
    open.add(entry)
    known.push(entry)
  }

  function beginEnd(work: Work): void {
    const entry = entries.get(work)
    if (!entry || isStopped) return
    entry.isEnding = true
    entry.drops = 0
    entry.before = now()
  }

  function endRequest(work: RequestObservation, outcome: Outcome): void {
    const { method, route, path } = work
    const { statusCode, aborted } = outcome
    end(work, outcome, (common, order) => {
      insert(collection.requests, Object.assign(common, { method, route, path, statusCode, aborted }), order)
    })
  }

  function endJob(work: JobObservation, outcome: JobOutcome): void {
    const { job, attempt } = work
    end(work, outcome, (common, order) => {
      insert(collection.jobs, Object.assign(common, { job, attempt, result: outcome.result }), order)
    })
  }

  function end(
    work: Work,
    { durationMs, error, errorType }: Pick<Outcome, 'durationMs' | 'error' | 'errorType'>,
    add: (common: Omit<SeenJob, 'job' | 'attempt' | 'result'>, order: number) => void
  ): void {
    const entry = entries.get(work)
    if (!entry || isStopped) return
    const { draft } = entry
    const { requestId, correlationId, sentryEventId } = work
    entry.isEnding = false
    takeForeignSpan(entry)
    if (reader) draft.metrics = byName(changesOf(now(), entry.before))
    const common = { requestId, correlationId, durationMs, error, errorType, fields: Object.fromEntries(work.fields) }
    const order = ++ended
    const list = (): void => {
      entry.list = undefined
      open.delete(entry)
      add(Object.assign(draft, common), order)
      changed()
    }
    settleEvent(entry)
    const isComing = sentryEventId !== undefined && draft.event?.event_id !== sentryEventId && entry.drops === 0
    if (isComing) waitForEvent(entry, list)
    else list()
  }

  /** One whose event came late stands where it has ended. */
  function insert<Item extends object>(list: Item[], item: Item, order: number): void {
    orders.set(item, order)
    const at = list.findIndex((other) => (orders.get(other) ?? 0) > order)
    list.splice(at === -1 ? list.length : at, 0, item)
  }

  /** Lists what has failed when its event has come: that a request has none can be seen then. */
  function waitForEvent(entry: Entry, list: () => void): void {
    const timer = setTimeout(list, EVENT_MS).unref()
    entry.list = () => {
      clearTimeout(timer)
      list()
    }
  }

  function now(): Points {
    return reader ? pointsOf(reader.readNow()) : NO_POINTS
  }

  /** The request or job of this app that the calling code works for. */
  function scoped(): Entry | undefined {
    const work = currentScope()?.observation
    return work && entries.get(work)
  }

  function isOfOtherApp(): boolean {
    const work = currentScope()?.observation
    return work !== undefined && work.jobs !== jobs
  }

  function receiveLine(text: string): void {
    const line = lineOf(text)
    const entry = ownerOf(line)
    // Apps may share a logger.
    if (!entry && isOfOtherApp()) return
    collection.lines.push(line)
    if (entry) {
      entry.draft.lines.push(line)
      if (entry.isEnding && line.duration_ms !== undefined) entry.draft.line = line
    }
    changed()
  }

  /** A request's logger may be used anywhere, and callers may send the same id twice. */
  function ownerOf({ request_id: id }: SeenLine): Entry | undefined {
    const entry = scoped()
    if (id === undefined || id === entry?.work.requestId) return entry
    return known.findLast(({ work }) => work.requestId === id) ?? entry
  }

  function claim(span: Pick<FinishedSpan, 'spanContext' | 'parentSpanContext'>): void {
    const { spanId } = span.spanContext()
    const parentId = span.parentSpanContext?.spanId
    const owner = scoped() ?? (parentId === undefined ? undefined : spanOwner(parentId))
    if (owner) owners.set(spanId, owner)
    else if (isOfOtherApp() || (parentId !== undefined && others.has(parentId))) others.add(spanId)
  }

  function spanOwner(id: string): Entry | undefined {
    // That of a job is started by the code that the job runs in.
    return Array.from(open).find(({ work }) => work.spanContext?.spanId === id) ?? owners.get(id)
  }

  function receiveSpan(span: FinishedSpan): void {
    const { spanId, traceFlags } = span.spanContext()
    if ((traceFlags & TraceFlags.SAMPLED) === 0) return
    const owner = spanOwner(spanId)
    if (!owner && (others.has(spanId) || isOfOtherApp())) return
    const seen = seenSpan(span)
    collection.spans.push(seen)
    if (owner) {
      owner.draft.spans.push(seen)
      if (spanId === owner.work.spanContext?.spanId) owner.draft.span = seen
    }
    changed()
  }

  /** The provider of an application may be made before, and hands its spans to nobody else. */
  function takeForeignSpan({ work, draft }: Entry): void {
    const span = work.context && trace.getSpan(work.context)
    if (!draft.span && span && isFinished(span)) receiveSpan(span)
  }

  function receiveEvent(given: object | undefined): void {
    const entry = scoped()
    if (!entry && isOfOtherApp()) return
    if (given) {
      const event = eventOf(given)
      collection.events.push(event)
      entry?.draft.events.push(event)
    } else if (entry) entry.drops++
    if (entry) settleEvent(entry)
    if (entry?.list && (!given || entry.draft.event?.event_id === entry.work.sentryEventId)) entry.list()
    changed()
  }

  function settleEvent({ work, draft }: Entry): void {
    draft.event = draft.events.find(({ event_id: id }) => id === work.sentryEventId) ?? draft.events[0]
  }

  return collection
}

function wordsOf({ work, list }: Entry): string {
  const name = 'raw' in work ? `${work.method} ${work.path}` : work.job
  return list ? `${name}, whose event has not come` : name
}

/** Those of a request or job: gauges are of the app. */
function byName(points: readonly SeenPoint[]): Record<string, SeenPoint> {
  return Object.fromEntries(points.filter((point) => !isGauge(point)).map((point) => [point.name, point]))
}

function lineOf(text: string): SeenLine {
  try {
    const line: unknown = JSON.parse(text)
    if (isRecord(line)) return line
  } catch {
    // A hook of the application's may have made something else of it.
  }
  return { msg: text.trimEnd() }
}

/** A copy without what the SDK keeps for itself, and changes. */
function eventOf(event: object): SeenEvent {
  const own: SeenEvent = { ...event, sdkProcessingMetadata: undefined }
  try {
    return JSON.parse(JSON.stringify(own))
  } catch {
    return own
  }
}

function isFinished(span: object): span is FinishedSpan {
  return 'attributes' in span && 'duration' in span && 'ended' in span && span.ended === true
}
