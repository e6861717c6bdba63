import type { MetricFamily, MetricSample } from '@fastify-observability/observation/internal'
import type { SeenPoint } from './seen.ts'

/** The series of an app's metrics, by name and labels. */
export type Points = ReadonlyMap<string, SeenPoint>

export const NO_POINTS: Points = new Map()

/** One point a series: that of a histogram or a summary has how many values there were, and their sum. */
export function pointsOf(families: readonly MetricFamily[]): Points {
  const points = new Map<string, SeenPoint>()
  for (const { name, type, values } of families) {
    for (const { labels: all = {}, value, metricName = name } of values) {
      const labels = labelsOf(all)
      const key = JSON.stringify([name, Object.entries(labels).sort()])
      const known = points.get(key) ?? { name, type, labels, value: 0 }
      if (metricName.endsWith('_sum') && metricName !== name) points.set(key, { ...known, sum: value })
      else if (metricName === name ? all.quantile === undefined : metricName.endsWith('_count'))
        points.set(key, { ...known, value })
    }
  }
  return points
}

/** What has changed: increases of counters and histograms that are none are left out, gauges are as they are now. */
export function changesOf(now: Points, before: Points): SeenPoint[] {
  return Array.from(now, ([key, point]) => increaseOf(point, before.get(key))).filter(
    (point) => isGauge(point) || point.value !== 0
  )
}

export function isGauge({ type }: SeenPoint): boolean {
  return type === 'gauge'
}

function increaseOf(point: SeenPoint, before: SeenPoint | undefined): SeenPoint {
  // A series that was removed begins anew.
  if (isGauge(point) || before === undefined || before.value > point.value) return point
  const value = point.value - before.value
  return point.sum === undefined ? { ...point, value } : { ...point, value, sum: point.sum - (before.sum ?? 0) }
}

function labelsOf(labels: NonNullable<MetricSample['labels']>): Record<string, string> {
  const own = Object.entries(labels).filter(([name, value]) => !isLimit(name) && value !== undefined)
  return Object.fromEntries(own.map(([name, value]) => [name, String(value)]))
}

/** Whether the label tells apart the samples of one histogram or summary. */
function isLimit(name: string): boolean {
  return name === 'le' || name === 'quantile'
}
