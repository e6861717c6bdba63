/** What has happened to the series of a metric since their last collection. */
export interface Window {
  startTimeMs: number
  /** Of the last collection, to tell new exemplars from those already sent. */
  lastTimeMs: number
  values: readonly number[]
}

/** Where a series stood at its last collection. */
interface Position {
  /** When the series began, or was last seen to begin anew. */
  startTimeMs: number
  lastTimeMs: number
  /** As they were collected. */
  values: readonly number[]
  /** The sum of all that was reported as change. */
  reported: readonly number[]
}

/** Knows how much of each series was collected before. */
export interface Windows {
  /** The values of a series, of which the first `growing` never fall: all of them, or what came since the last collection. */
  next(metric: string, series: string, values: readonly number[], growing: number, isDelta: boolean): Window
  /** Begins a collection. */
  begin(timeMs: number): void
  /** Forgets the series of a metric that were not in this collection: they were removed. */
  sweep(metric: string): void
}

/** @param startTimeMs when the first of the series began. */
export function openWindows(startTimeMs: number): Windows {
  let timeMs = startTimeMs
  const metrics = new Map<string, { lastTimeMs: number; positions: Map<string, Position> }>()

  return {
    begin(now) {
      timeMs = now
    },
    next(metric, series, values, growing, isDelta) {
      const known = metrics.get(metric) ?? { lastTimeMs: startTimeMs, positions: new Map<string, Position>() }
      metrics.set(metric, known)
      const before = known.positions.get(series)
      // What fell has begun anew, at some time since the last collection.
      const last = before && isContinued(before.values, values, growing) ? before : undefined
      const { reported = values.map(() => 0), lastTimeMs = known.lastTimeMs } = last ?? {}
      const startedAt = last?.startTimeMs ?? before?.lastTimeMs ?? known.lastTimeMs
      const changes = values.map((value, index) => value - (reported[index] ?? 0))
      known.positions.set(series, {
        startTimeMs: startedAt,
        lastTimeMs: timeMs,
        values,
        // Not the values: added up, the changes differ from them by what floating point rounds.
        reported: changes.map((change, index) => (reported[index] ?? 0) + change)
      })
      return isDelta
        ? { startTimeMs: last ? lastTimeMs : startedAt, lastTimeMs, values: changes }
        : { startTimeMs: startedAt, lastTimeMs, values }
    },
    sweep(metric) {
      const known = metrics.get(metric)
      if (!known) return
      for (const [series, { lastTimeMs }] of known.positions) {
        if (lastTimeMs !== timeMs) known.positions.delete(series)
      }
      known.lastTimeMs = timeMs
    }
  }
}

function isContinued(before: readonly number[], now: readonly number[], growing: number): boolean {
  return before.length === now.length && before.slice(0, growing).every((value, index) => value <= (now[index] ?? 0))
}
