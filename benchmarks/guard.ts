import { fullCost } from './report.ts'
import type { Round } from './sample.ts'
import { lowestTenth } from './statistics.ts'
import { isVariant, type VariantName } from './variants.ts'

/** The share by which a ratio may exceed the kept one. */
const TOLERANCE = 0.15

/**
 * The CPU time a request of each variant over bare's, of the cheapest turns of both: what else runs on a machine only ever
 * makes a turn dearer, and a change that costs something makes all of them so.
 */
export function ratios(rounds: Round[]): Record<string, number> {
  const names = Object.keys(rounds[0] ?? {}).filter((name): name is VariantName => isVariant(name) && name !== 'bare')
  const bare = lowestTenth(rounds, 'bare', fullCost) ?? Number.NaN
  return Object.fromEntries(
    names.map((name) => [name, Math.round(((lowestTenth(rounds, name, fullCost) ?? Number.NaN) / bare) * 100) / 100])
  )
}

/** A sentence for each variant that costs more than the kept ratios allow. */
export function regressions(measured: Record<string, number>, kept: Record<string, number>): string[] {
  return Object.entries(measured).flatMap(([name, ratio]) => {
    const before = kept[name]
    if (before === undefined) return [`${name} has no ratio in ratios.json: pnpm bench --quick --keep`]
    if (ratio <= before * (1 + TOLERANCE)) return []
    return [`${name} costs ${ratio} times bare (${before} before)`]
  })
}
