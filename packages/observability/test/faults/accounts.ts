import type { Cell, Signal } from './cell.ts'
import type { Report } from './process.ts'
import type { Stage } from './stage.ts'

/** What was produced of a signal, by who made it; and what became of it, by who received it and by the suite's counters. */
interface Account {
  signal: Signal
  /** As least and most: what comes while a process crashes may or may not be seen. `undefined` where nobody else counts it. */
  produced: [least: number, most: number] | undefined
  delivered: number
  /** Received once more: what a collector has taken and could not confirm is sent again, as OTLP wants it. */
  repeated?: number
  /** With what was held when the process ended at once. */
  dropped: number
  /** What the suite believes to have delivered. `undefined` where it does not count that. */
  counted?: number
}

/** Standard output, the file, and over OTLP. */
const COPIES = 3
const ITEMS = { spans: 'span', records: 'log', points: 'metric_data_point' } as const

/** Compares what each receiver has got with the counters at the very end of the process. */
export function accountsOf(stage: Stage, report: Report, cell: Cell): { seen: string[]; problems: string[] } {
  const { collector, service } = stage
  function sum(name: string, matches: (label: string) => boolean = () => true): number {
    const series = report.series.filter((one) => one.name === name && matches(one.label))
    return series.reduce((sum, { value }) => sum + value, 0)
  }
  function overOtlp(signal: keyof typeof ITEMS, produced: Account['produced'], requests: object[][]): Account {
    const exported = `otel_sdk_exporter_${ITEMS[signal]}_exported_total`
    const processor = `otel_sdk_processor_${ITEMS[signal]}`
    const isLoss = (label: string): boolean => label !== ''
    const dropped = sum(exported, isLoss) + sum(`${processor}_processed_total`, isLoss) + sum(`${processor}_queue_size`)
    const delivered = countOf(requests)
    const repeated = requests.flat().length - delivered
    return { signal, produced, delivered, repeated, dropped, counted: sum(exported, (label) => label === '') }
  }
  const { ended, spans, thrown, uncaught, atCrash } = report
  const lines = [...service.lines, ...fileLines(stage)]
  const written = sum('log_lines_total')
  const records = overOtlp('records', [written, written], collector.requests.logs)
  const events = thrown + uncaught.length
  const before = atCrash ?? { ended, spans, thrown }
  const accounts: Account[] = [
    overOtlp('spans', [before.ended + before.spans, ended + spans], collector.requests.traces),
    records,
    overOtlp('points', undefined, collector.requests.metrics),
    {
      signal: 'lines',
      produced: [COPIES * written - (cell.unread?.lines ?? 0), COPIES * written],
      delivered: lines.length + (records.counted ?? 0),
      dropped: sum('log_lines_dropped_total')
    },
    {
      signal: 'events',
      produced: [before.thrown + uncaught.length, events],
      delivered: new Set(stage.ingest.accepted.map(({ event_id }) => event_id)).size,
      dropped: sum('sentry_events_dropped_total'),
      counted: sum('sentry_events_total')
    }
  ]
  const torn = lines.filter((line) => !isJson(line)).map((line) => `no JSON: ${line.slice(0, 100)}`)
  return { seen: accounts.map(wordsOf), problems: [...torn, ...accounts.flatMap((one) => problemsOf(one, cell))] }
}

/** The items that a collector has received, each once: a request is the same to the byte when it is sent again. */
export function countOf(requests: object[][]): number {
  const items = new Map(requests.map((items) => [JSON.stringify(items), items.length]))
  return [...items.values()].reduce((sum, count) => sum + count, 0)
}

/** A line that came to a deleted file is written again to the next. */
function fileLines(stage: Stage): string[] {
  const first = stage.fileLines()
  const known = new Set(first)
  return [...first, ...stage.newFileLines().filter((line) => !known.has(line))]
}

function wordsOf({ signal, produced, delivered, repeated = 0, dropped, counted = delivered }: Account): string {
  const notes = []
  if (repeated > 0) notes.push(`${repeated} came twice`)
  if (delivered > counted) notes.push(`${delivered - counted} more were received and not confirmed`)
  const equation = `${signal} ${produced?.[1] ?? counted + dropped} = ${counted} + ${dropped}`
  return notes.length > 0 ? `${equation} (${notes.join(', ')})` : equation
}

function problemsOf({ signal, produced, delivered, dropped, counted = delivered }: Account, cell: Cell): string[] {
  const problems: string[] = []
  const [least, most] = produced ?? [0, Number.POSITIVE_INFINITY]
  if (delivered + dropped === 0) problems.push(`${signal}: none were produced`)
  if (delivered + dropped < least || counted + dropped > most)
    problems.push(`${signal}: ${least} to ${most} produced, ${delivered} delivered, ${dropped} dropped`)
  if (counted > delivered || (counted < delivered && !mayBeUnconfirmed(signal, cell)))
    problems.push(`${signal}: ${counted} are counted as delivered, ${delivered} were received`)
  const why = cell.loses?.[signal]
  if (dropped > 0 && !why && !cell.mayLose?.[signal])
    problems.push(`${signal}: ${dropped} dropped, none was to be lost`)
  if (dropped === 0 && why) problems.push(`${signal}: the fault cost nothing, expected was: ${why}`)
  return problems
}

/**
 * Whether items may be received and counted as dropped: a receiver has taken them, on a busy machine too late to say so, and
 * refuses them when they come again, or the process has ended meanwhile.
 */
export function mayBeUnconfirmed(signal: Signal, { loses, mayLose }: Cell): boolean {
  return loses?.[signal] !== undefined || mayLose?.[signal] !== undefined
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line)
    return true
  } catch {
    return false
  }
}
