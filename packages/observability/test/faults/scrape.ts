import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import { countOf, mayBeUnconfirmed } from './accounts.ts'
import type { Cell } from './cell.ts'
import type { Stage } from './stage.ts'
import { responseTo, type Traffic } from './traffic.ts'

/** The values of each metric, by its labels; the empty ones are left out. */
export type Scraped = Map<string, Map<string, number>>

/** A batch may take 30 s, all attempts together; the rest is for a busy machine. */
const SETTLE_MS = 60_000
const POLL_MS = 200
const SIGNALS = ['spans', 'records', 'events'] as const

export async function scrape(origin: string): Promise<Scraped> {
  const scraped: Scraped = new Map()
  const response = await responseTo(origin, { path: '/metrics', headers: { accept: 'text/plain' } })
  for (const line of (await text(response)).split('\n')) {
    const [, name, labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    if (name === undefined) continue
    const values = scraped.get(name) ?? new Map<string, number>()
    values.set(labels.replace(/\w+="",?/g, ''), Number(value))
    scraped.set(name, values)
  }
  return scraped
}

/** Waits until nothing is held, by `/metrics`, and compares that with what was received. What is wrong. */
export async function settled(stage: Stage, traffic: Traffic, cell: Cell): Promise<string[]> {
  const until = performance.now() + (cell.isNoticedAs ? 0 : SETTLE_MS)
  for (;;) {
    const wrong = differences(await scrape(stage.service.origin), stage, traffic, cell)
    if (wrong.length === 0) return []
    if (performance.now() > until) return wrong.map((what) => `on /metrics in the end: ${what}`)
    await wait(POLL_MS)
  }
}

function differences(scraped: Scraped, stage: Stage, traffic: Traffic, cell: Cell): string[] {
  const of = (name: string): number => scraped.get(name)?.get('') ?? 0
  const all = (name: string): number => [...(scraped.get(name)?.values() ?? [])].reduce((sum, value) => sum + value, 0)
  const { collector, ingest } = stage
  const pairs: [what: string, counted: number, received: number][] = [
    ['spans held', of('otel_sdk_processor_span_queue_size'), 0],
    ['records held', of('otel_sdk_processor_log_queue_size'), 0],
    ['spans', of('otel_sdk_exporter_span_exported_total'), countOf(collector.requests.traces)],
    ['records', of('otel_sdk_exporter_log_exported_total'), countOf(collector.requests.logs)],
    ['events', of('sentry_events_total'), ingest.accepted.length]
  ]
  if (!cell.hasOtherRequests) {
    const failures = all('sentry_events_total') + all('sentry_events_dropped_total')
    pairs.push(
      ['failures', failures, traffic.failures],
      ['requests', requestsIn(scraped), traffic.answered + stage.caused]
    )
  }
  const isRight = (what: string, counted: number, received: number): boolean =>
    counted === received || (counted < received && SIGNALS.some((one) => one === what && mayBeUnconfirmed(one, cell)))
  return pairs.flatMap(([what, counted, received]) =>
    isRight(what, counted, received) ? [] : [`${what}: ${counted} counted, ${received} received`]
  )
}

/** The requests of the duration, without scrapes and probes. */
function requestsIn(scraped: Scraped): number {
  let requests = 0
  for (const [labels, count] of scraped.get('http_server_request_duration_seconds_count') ?? [])
    if (!/http_route="\/(?:metrics|health)/.test(labels)) requests += count
  return requests
}
