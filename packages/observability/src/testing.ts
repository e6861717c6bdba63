import observation from '@fastify-observability/observation'
import {
  documented,
  type Registry,
  registryOf,
  type Signal,
  type Stop
} from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import { type Collection, createCollection } from './testing/collection.ts'
import { changesOf, isGauge, NO_POINTS, type Points, pointsOf } from './testing/points.ts'
import type { Seen, SeenEvent, SeenPoint, WaitOptions, Which } from './testing/seen.ts'
import { createWaiters, testOf, wordsOf } from './testing/waiters.ts'

export type {
  Seen,
  SeenError,
  SeenEvent,
  SeenJob,
  SeenLine,
  SeenPoint,
  SeenRequest,
  SeenSignals,
  SeenSpan,
  WaitOptions,
  Which
} from './testing/seen.ts'

/** An app of Fastify's, whatever its server, logger and type provider are. */
export type ObservedApp = Pick<FastifyInstance, 'hasDecorator' | 'pluginName' | 'version'>

/** Options of `observe`. */
export interface ObserveOptions {
  /** How long a waiter waits, in milliseconds. @default 5000 */
  timeoutMs?: number
}

const NAME = 'fastify-observability/testing'
const MAX_DESCRIBED = 10
const MISSING: Record<Signal, string> = {
  lines: 'logging is not registered',
  spans: 'tracing is not registered',
  points: 'metrics are not registered',
  events: 'events need sentry, and @sentry/node installed'
}

/**
 * Sees what the app's requests and jobs make: lines, spans, metrics and error events, beside where they go. Nothing of the app
 * changes for it: no endpoint, no DSN and no port are needed, and nothing is sent. It may be called before the parts are
 * registered, after, or while the app serves; what happened before is not seen. Other apps of the process are not seen either.
 * @throws TypeError for what is no Fastify app.
 */
export async function observe(app: ObservedApp, { timeoutMs = 5_000 }: ObserveOptions = {}): Promise<Seen> {
  if (!isFastify(app)) {
    const words = 'observe(app) takes a Fastify instance, of NestJS app.getHttpAdapter().getInstance()'
    throw documented(new TypeError(`${NAME}: ${words}`), 'in-tests')
  }
  // What was registered without being waited for.
  await app.after()
  if (!app.hasDecorator('observation')) await app.register(observation)
  const registry = registryOf(app)
  const waiters = createWaiters()
  const collection = createCollection(registry, waiters.changed)
  for (const observer of collection.observers) registry.observe(observer)
  const stops = await watch(registry, collection)
  let before = await readPoints(collection)

  function stop(): void {
    for (const stop of stops) stop()
    collection.stop()
    waiters.end('before the app was closed, or stop() called')
  }
  registry.feeds.lines.onEnd(stop)

  function waitFor<Item extends object>(
    kind: Kind,
    list: readonly Item[],
    which: string | Which<Item> | undefined,
    text: (keyof Item & string) | undefined,
    options: WaitOptions = {}
  ): Promise<Item> {
    const passes = testOf(which, text)
    return waiters.wait({
      find: () => list.find(passes),
      missing: `no ${kind}${wordsOf(which)}`,
      describe: () => describe(kind, collection, registry),
      timeoutMs,
      ...options
    })
  }

  async function increases(): Promise<SeenPoint[]> {
    return changesOf(await readPoints(collection), before)
  }

  const { requests, jobs, lines, spans, events } = collection
  return {
    requests,
    jobs,
    lines,
    spans,
    events,
    points: increases,
    request: (which, options) => waitFor('request', requests, which, undefined, options),
    job: (which, options) => waitFor('job', jobs, which, 'job', options),
    line: (which, options) => waitFor('line', lines, which, 'msg', options),
    span: (which, options) => waitFor('span', spans, which, 'name', options),
    event: (which, options) => waitFor('event', events, which, undefined, options),
    point(name, labels = {}, options = {}) {
      let last: SeenPoint[] = []
      const passes = testOf<SeenPoint>({ name, labels })
      return waiters.wait({
        async find() {
          last = await increases()
          return last.find(passes)
        },
        missing: `no point${wordsOf({ name, labels })}`,
        describe: () => describePoints(last, name, registry),
        timeoutMs,
        isPolled: true,
        ...options
      })
    },
    async clear() {
      collection.clear()
      before = await readPoints(collection)
    },
    stop
  }
}

function isFastify(app: object): app is FastifyInstance {
  return 'hasDecorator' in app && 'register' in app && 'after' in app
}

async function watch({ feeds }: Registry, { receivers }: Collection): Promise<Stop[]> {
  return Promise.all([
    feeds.lines.watch(receivers.line),
    feeds.spans.watch(receivers.span),
    feeds.points.watch(receivers.points),
    feeds.events.watch(receivers.event)
  ])
}

async function readPoints({ reader }: Collection): Promise<Points> {
  return reader ? pointsOf(await reader.read()) : NO_POINTS
}

type Kind = 'request' | 'job' | 'line' | 'span' | 'event'

/** What there is instead of what was waited for. */
function describe(kind: Kind, collection: Collection, registry: Registry): string {
  const { requests, jobs, lines, spans, events } = collection
  const seen: Record<Kind, readonly string[]> = {
    request: requests.map(({ method, route, statusCode }) => `${method} ${route} ${statusCode}`),
    job: jobs.map(({ job, result }) => `${job} ${result}`),
    line: lines.map(({ level, msg }) => `${level} "${msg}"`),
    span: spans.map(({ name }) => name),
    event: events.map(textOf)
  }
  const open = collection.open()
  const running = open.length > 0 ? `; not ended: ${listed(open)}` : ''
  return `seen: ${listed(seen[kind]) || `none${hintOf(kind, registry)}`}${running}`
}

function describePoints(points: readonly SeenPoint[], name: string, registry: Registry): string {
  const same = points.filter((point) => point.name === name).map(({ labels }) => JSON.stringify(labels))
  if (same.length > 0) return `seen with the labels ${listed(same)}`
  const names = new Set(points.filter((point) => !isGauge(point)).map((point) => point.name))
  return `seen: ${listed([...names]) || `none${hintFor('points', registry)}`}`
}

function hintOf(kind: Kind, registry: Registry): string {
  if (kind === 'request' || kind === 'job') return ''
  return hintFor(`${kind}s`, registry)
}

function hintFor(signal: Signal, { descriptions }: Registry): string {
  return descriptions.of(signal) ? '' : ` (${MISSING[signal]})`
}

/** The last of them. */
function listed(texts: readonly string[]): string {
  const more = texts.length - MAX_DESCRIBED
  return (more > 0 ? `${more} others, ` : '') + texts.slice(-MAX_DESCRIBED).join(', ')
}

function textOf({ exception, message = '' }: SeenEvent): string {
  const { type, value } = exception?.values?.at(-1) ?? {}
  return type === undefined ? message : `${type}: ${value}`
}
