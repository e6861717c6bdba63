import type { Series } from './series.ts'

/** What was lost according to the counters of the parts, by series and reason. */
export function lossesOf(published: readonly Series[]): Record<string, number> {
  const losses: [string, number][] = []
  for (const series of published) {
    try {
      losses.push(...lossesIn(series))
    } catch {
      // A part that cannot count must not keep the process from ending.
    }
  }
  return Object.fromEntries(losses)
}

/** The sum of what was lost according to these counters. */
export function lostIn(published: readonly Series[]): number {
  return sumOf(Object.values(lossesOf(published)))
}

/** How many items wait or are being exported, according to the gauges of an exporter. */
export function heldIn(published: readonly Series[]): number {
  const sizes = published.filter(({ type, name }) => type === 'gauge' && name.endsWith('_queue_size'))
  return sumOf(sizes.flatMap(({ collect }) => Array.from(collect(), ([, value]) => value)))
}

export function sumOf(numbers: Iterable<number>): number {
  let sum = 0
  for (const number of numbers) sum += number
  return sum
}

// A span that was exported or processed has an empty error_type.
function lossesIn({ name, type, labelNames, collect }: Series): [string, number][] {
  if (type !== 'counter') return []
  const countsLosses =
    name.endsWith('_dropped_total') || (name.startsWith('otel_sdk_') && labelNames.includes('error_type'))
  if (!countsLosses) return []
  return Array.from(collect()).flatMap(([labels, count]) => {
    const [reason = ''] = Object.values(labels)
    return count > 0 && reason !== '' ? [[`${name}{${reason}}`, count]] : []
  })
}
