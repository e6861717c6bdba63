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

/** A figure that a tenth of the rounds stay below. */
export function lowestTenth(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined
): number | undefined {
  const values = rounds.map((round) => round[name] && figure(round[name])).filter((value) => value !== undefined)
  return values.sort((a, b) => a - b)[Math.floor(values.length / 10)]
}

/** The median of a figure's ratios against bare, each within its round: what slows a whole round down cancels out. */
export function ratio(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined
): number | undefined {
  return paired(rounds, name, figure, (own, bare) => own / bare)
}

/** The median of what a figure is over bare, each within its round. */
export function overBare(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined
): number | undefined {
  return paired(rounds, name, figure, (own, bare) => own - bare)
}

function paired(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined,
  compare: (own: number, bare: number) => number
): number | undefined {
  const pairs = rounds.flatMap((round) => {
    const own = round[name] && figure(round[name])
    const bare = round.bare && figure(round.bare)
    return own === undefined || bare === undefined ? [] : [compare(own, bare)]
  })
  return pairs.length > 0 ? median(pairs) : undefined
}
