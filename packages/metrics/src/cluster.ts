import cluster from 'node:cluster'
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads'
import { clearTimeout, isRecord, parseOptions, setTimeout } from '@fastify-observability/observation/internal'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import * as v from 'valibot'
import type { Family, Sample } from './exposition/format.ts'
import { serveMetrics } from './exposition/route.ts'
import { pathSchema } from './options.ts'

/** Options of `clusterMetrics`. */
export interface ClusterMetricsOptions {
  /** Where Prometheus scrapes. @default '/metrics' */
  path?: string
}

/** A message between the process that serves the sum and its members: workers and worker threads. */
interface Message {
  channel: typeof CHANNEL
  /** `families` without an `id` are a member's last ones. */
  type: 'collect' | 'join' | 'families'
  member?: string
  id?: number
  families?: readonly Family[]
}

type Collect = () => Promise<readonly Family[]>

interface Scrape {
  waiting: Set<string>
  done: () => void
}

const NAME = '@fastify-observability/metrics'
const CHANNEL = 'fastify-observability:metrics'
const ANSWER_MS = 800
const schema = v.strictObject({ path: pathSchema })
const PROCESS = /^process_/
const RUNTIME = /^(process|nodejs)_/

// The apps of this process or thread are one member: the runtime is the same for all of them.
const apps = new Set<Collect>()
// The counters of closed apps, while others go on: Prometheus takes a sum that falls for a restart.
let closed: readonly Family[] = []
let disconnect: (() => void) | undefined
let send: ((message: Message) => Promise<void>) | undefined

/** Has an app of a cluster's worker or of a worker thread answer `clusterMetrics`. Returns the function to leave by. */
export function joinCluster(collect: Collect): () => Promise<void> {
  if (isMainThread && !cluster.isWorker) return async () => {}
  apps.add(collect)
  if (!disconnect) connect()
  return async () => {
    const last = counted(await collect())
    apps.delete(collect)
    closed = merge([closed, last.filter(({ name }) => !RUNTIME.test(name))])
    if (apps.size > 0) return
    const families = fromHere([...closed, ...last.filter(({ name }) => RUNTIME.test(name))])
    // A thread is a new member when another app starts in it; a process is the same one.
    if (!isMainThread) closed = []
    // Closing the app does not fail because of its metrics.
    await send?.(message('families', { families })).catch(() => undefined)
    if (apps.size > 0) return
    disconnect?.()
    disconnect = undefined
  }
}

function connect(): void {
  const listen = (received: unknown): void => {
    if (!isMessage(received) || received.type !== 'collect') return
    const { id } = received
    // The process that asked may be gone, and is not waited for.
    collectAll()
      .then((families) => send?.(message('families', { id, families })))
      .catch(() => undefined)
  }
  if (isMainThread) {
    send = (sent) =>
      new Promise((resolve) => (process.connected ? process.send?.(sent, undefined, {}, () => resolve()) : resolve()))
    process.on('message', listen)
    disconnect = () => process.off('message', listen)
  } else {
    const channel = new BroadcastChannel(CHANNEL)
    channel.unref()
    channel.onmessage = (event: unknown) => listen(dataOf(event))
    send = async (sent) => channel.postMessage(sent)
    disconnect = () => channel.close()
    void send(message('join'))
  }
}

async function collectAll(): Promise<readonly Family[]> {
  // Before the wait: an app that closes meanwhile is among those asked.
  const past = closed
  const all = await Promise.all([...apps].map((collect) => collect()))
  const families = merge([
    ...all.map((families, at) => (at === 0 ? families : families.filter(({ name }) => !RUNTIME.test(name)))),
    past
  ])
  return fromHere(families)
}

// Threads share their process.
function fromHere(families: readonly Family[]): readonly Family[] {
  return isMainThread
    ? families
    : families.map((family) => (PROCESS.test(family.name) ? { ...family, aggregator: 'max' } : family))
}

function message(type: Message['type'], rest: Partial<Message> = {}): Message {
  return { channel: CHANNEL, type, member: `thread ${threadId}`, ...rest }
}

function isMessage(value: unknown): value is Message {
  return isRecord(value) && value.channel === CHANNEL
}

function dataOf(event: unknown): unknown {
  return isRecord(event) ? event.data : undefined
}

/**
 * Serves the sum of the metrics of this process's workers: for the primary of a `node:cluster` and for the main thread
 * above worker threads. The counters of a worker that has gone stay; one that does not answer in time counts with the
 * values of its last answer.
 */
async function clusterMetricsPlugin(app: FastifyInstance, options: ClusterMetricsOptions): Promise<void> {
  const { path = '/metrics' } = parseOptions<ClusterMetricsOptions>(`${NAME}: clusterMetrics`, schema, options)
  const threads = new Set<string>()
  const latest = new Map<string, readonly Family[]>()
  const scrapes = new Map<number, Scrape>()
  let past: readonly Family[] = []
  let scrapeId = 0

  function receive(member: string, { id, families }: Message): void {
    if (families) latest.set(member, families)
    if (id !== undefined) settle(member, scrapes.get(id))
  }

  function settle(member: string, scrape: Scrape | undefined): void {
    if (scrape?.waiting.delete(member) && scrape.waiting.size === 0) scrape.done()
  }

  function retire(member: string): void {
    past = merge([past, counted(latest.get(member) ?? [])])
    latest.delete(member)
    for (const scrape of scrapes.values()) settle(member, scrape)
  }

  function receiveFromWorker(worker: { id: number }, received: unknown): void {
    if (isMessage(received)) receive(`worker ${worker.id}`, received)
  }

  function retireWorker(worker: { id: number }): void {
    retire(`worker ${worker.id}`)
  }

  const channel = new BroadcastChannel(CHANNEL)
  channel.unref()
  channel.onmessage = (event: unknown) => {
    const received = dataOf(event)
    if (!isMessage(received) || received.member === undefined || received.type === 'collect') return
    threads.add(received.member)
    receive(received.member, received)
    if (received.type === 'join' || received.id !== undefined) return
    threads.delete(received.member)
    retire(received.member)
  }
  cluster.on('message', receiveFromWorker)
  // Not `exit`, which may come before a worker's last message.
  cluster.on('disconnect', retireWorker)
  app.addHook('onClose', async () => {
    channel.close()
    cluster.off('message', receiveFromWorker)
    cluster.off('disconnect', retireWorker)
  })

  async function collect(): Promise<Family[]> {
    const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker?.isConnected())
    const id = scrapeId++
    const { promise, resolve } = Promise.withResolvers<void>()
    const asked = [...workers.map((worker) => `worker ${worker?.id}`), ...threads]
    const waiting = new Set(asked)
    scrapes.set(id, { waiting, done: resolve })
    const timer = setTimeout(resolve, ANSWER_MS)
    const request = message('collect', { id })
    // With a callback: without one, a worker that is just leaving would raise an error.
    for (const worker of workers) worker?.send(request, () => undefined)
    channel.postMessage(request)
    if (asked.length > 0) await promise
    clearTimeout(timer)
    scrapes.delete(id)
    // A terminated thread sends nothing; a busy one is added again by its late answer.
    for (const silent of waiting) threads.delete(silent)
    const present = [...latest].map(([member, families]) => (waiting.has(member) ? counted(families) : families))
    return merge([...present, past])
  }

  serveMetrics(app, path, collect)
}

/** The metrics that stay true of a worker that is gone. */
function counted(families: readonly Family[]): Family[] {
  return families.filter(({ type }) => type === 'counter' || type === 'histogram')
}

interface Merged {
  family: Family
  samples: Map<string, Sample[]>
}

/** Combines the metrics of several processes, each by its aggregator. */
function merge(sources: readonly (readonly Family[])[]): Family[] {
  const byName = new Map<string, Merged>()
  for (const family of sources.flat()) {
    if (family.aggregator === 'omit') continue
    const { samples } = byName.get(family.name) ?? { samples: new Map<string, Sample[]>() }
    byName.set(family.name, { family, samples })
    for (const sample of family.values) {
      const key = `${sample.metricName ?? ''}${JSON.stringify(sample.labels)}`
      const same = samples.get(key)
      if (same) same.push(sample)
      else samples.set(key, [sample])
    }
  }
  return Array.from(byName.values(), ({ family, samples }) => ({
    ...family,
    values: Array.from(samples.values(), (same) => aggregate(same, family.aggregator))
  }))
}

function aggregate(samples: Sample[], aggregator = 'sum'): Sample {
  // Between processes, JSON makes null of a number that is not finite.
  const values = samples.map(({ value }) => value ?? Number.NaN)
  const sum = values.reduce((total, value) => total + value, 0)
  const [first = sum] = values
  const results: Record<string, number> = {
    sum,
    first,
    average: sum / values.length,
    min: Math.min(...values),
    max: Math.max(...values)
  }
  const exemplar = samples
    .map(({ exemplar }) => exemplar)
    .reduce((one, other) => ((other?.timestamp ?? 0) > (one?.timestamp ?? 0) ? other : one), undefined)
  return { ...(samples[0] ?? { labels: {} }), value: results[aggregator] ?? sum, exemplar }
}

/** Serves the sum of the metrics of a cluster's workers, from its primary. */
export const clusterMetrics = fp(clusterMetricsPlugin, { name: `${NAME}/cluster`, fastify: '^5.10.0' })
