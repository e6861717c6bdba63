import type { Series } from '@fastify-observability/observation'

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
