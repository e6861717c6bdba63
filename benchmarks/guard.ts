import { fullCost, pacedCost } from './report.ts'
import { PACE_PER_SECOND, type Round } from './sample.ts'
import { ratio } from './statistics.ts'
import { isVariant, type VariantName } from './variants.ts'

/** What is kept of a variant: its CPU time a request over bare's, as medians of the rounds. */
export interface Kept {
  full: number
  paced: number
}

/** The share by which a ratio may exceed the kept one. */
const TOLERANCE = 0.15

export function ratios(rounds: Round[]): Record<string, Kept> {
  const names = Object.keys(rounds[0] ?? {}).filter((name): name is VariantName => isVariant(name) && name !== 'bare')
  return Object.fromEntries(
    names.map((name) => [
      name,
      { full: rounded(ratio(rounds, name, fullCost)), paced: rounded(ratio(rounds, name, pacedCost)) }
    ])
  )
}

function rounded(value = Number.NaN): number {
  return Math.round(value * 100) / 100
}

/**
 * A sentence for each variant that costs more than the kept ratios allow, at full load and at the fixed rate: a shared
 * machine moves one of them by more than the tolerance now and then, a dearer request moves both.
 */
export function regressions(rounds: Round[], kept: Record<string, Kept>): string[] {
  return Object.entries(ratios(rounds)).flatMap(([name, { full, paced }]) => {
    const before = kept[name]
    if (!before) return [`${name} has no ratios in ratios.json: pnpm bench --quick --keep`]
    const isDearer = full > before.full * (1 + TOLERANCE) && paced > before.paced * (1 + TOLERANCE)
    if (!isDearer) return []
    return [
      `${name} costs ${full} times bare at full load (${before.full} before) and ${paced} times at ${PACE_PER_SECOND} requests/s (${before.paced} before)`
    ]
  })
}
