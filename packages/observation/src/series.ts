/** Numbers that a part keeps, for a metrics part to show. */
export interface Series<Label extends string = string> {
  /** As Prometheus has it: in base units with the unit at the end, `_total` for a counter. */
  name: string
  /** What it measures, in one sentence: its HELP text. */
  help: string
  /** A counter only grows while the process lives. */
  type: 'counter' | 'gauge'
  /** The labels that each sample has; none with `[]`. */
  labelNames: readonly Label[]
  /** The values now, each with the values of its labels. */
  collect(): Iterable<Sample<Label>>
}

/** One value of a series, with its labels by name. */
export type Sample<Label extends string = string> = readonly [labels: Readonly<Record<Label, string>>, value: number]

/** Counts by the values of one label, ready to be the samples of a series. */
export interface Counts<Label extends string> {
  add(value: string, count?: number): void
  get(value: string): number
  collect(): Sample<Label>[]
}

/** @param values those that are shown as 0 before they are counted. */
export function countBy<Label extends string>(label: Label, values: readonly string[] = []): Counts<Label> {
  const counts = new Map(values.map((value) => [value, 0]))
  return {
    add: (value, count = 1) => void counts.set(value, (counts.get(value) ?? 0) + count),
    get: (value) => counts.get(value) ?? 0,
    collect: () => Array.from(counts, ([value, count]) => [labelsOf(label, value), count] as const)
  }
}

function labelsOf<Label extends string>(label: Label, value: string): Record<Label, string>
function labelsOf(label: string, value: string): Record<string, string> {
  return { [label]: value }
}
