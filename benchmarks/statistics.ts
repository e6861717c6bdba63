import type { Cost, Round, Sample } from './sample.ts'
import type { VariantName } from './variants.ts'

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

export function total(cost: Cost | undefined): number | undefined {
  return cost && cost.userUs + cost.systemUs
}

/** The median of a figure over the rounds, `undefined` when none has it. */
export function typical(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined
): number | undefined {
  const values = rounds.map((round) => round[name] && figure(round[name])).filter((value) => value !== undefined)
  return values.length > 0 ? median(values) : undefined
}

/** The median of a figure's ratios against bare, each within its round: what slows a whole round down cancels out. */
export function ratio(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined
): number | undefined {
  const ratios = rounds.flatMap((round) => {
    const own = round[name] && figure(round[name])
    const bare = round.bare && figure(round.bare)
    return own === undefined || bare === undefined ? [] : [own / bare]
  })
  return ratios.length > 0 ? median(ratios) : undefined
}
