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

/** The median of a figure's ratios against another's, each within its round: what slows a whole round down cancels out. */
export function ratio(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined,
  base: VariantName = 'bare'
): number | undefined {
  return paired(rounds, name, figure, base, (own, other) => own / other)
}

/** The median of what a figure is over another's, each within its round. */
export function over(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined,
  base: VariantName = 'bare'
): number | undefined {
  return paired(rounds, name, figure, base, (own, other) => own - other)
}

/**
 * Where the median of a figure lies with 95 % certainty, whatever its distribution: between two of the starts' own
 * figures, by rank. Starts are what is counted, because the rounds of one share what its processes were compiled to.
 * `undefined` below six of them.
 */
export function intervalOfStarts(
  starts: Round[][],
  figure: (rounds: Round[]) => number | undefined
): [number, number] | undefined {
  const values = starts.map(figure).filter((value) => value !== undefined)
  const sorted = values.sort((a, b) => a - b)
  const cut = outsideRank(sorted.length)
  const [low, high] = [sorted[cut - 1], sorted[sorted.length - cut]]
  return cut < 1 || low === undefined || high === undefined ? undefined : [low, high]
}

/** The highest rank that is above the median in at most 2.5 % of draws, by the binomial distribution; 0 without one. */
function outsideRank(count: number): number {
  let ways = 1
  let below = 0
  for (let heads = 0; heads <= count; heads++) {
    below += ways / 2 ** count
    if (below > 0.025) return heads
    ways = (ways * (count - heads)) / (heads + 1)
  }
  return 0
}

function paired(
  rounds: Round[],
  name: VariantName,
  figure: (sample: Sample) => number | undefined,
  base: VariantName,
  compare: (own: number, other: number) => number
): number | undefined {
  const pairs = rounds.flatMap((round) => {
    const own = round[name] && figure(round[name])
    const other = round[base] && figure(round[base])
    return own === undefined || other === undefined ? [] : [compare(own, other)]
  })
  return pairs.length > 0 ? median(pairs) : undefined
}
