import { fullCost } from './report.ts'
import type { Round } from './sample.ts'
import { ratio } from './statistics.ts'
import { isVariant, type VariantName } from './variants.ts'

/** The share by which a ratio may exceed the kept one: more than the noise of a shared machine. */
const TOLERANCE = 0.15

/** What is kept of the rounds, by variant: the ratio of the CPU time a request against bare. */
export function ratios(rounds: Round[]): Record<string, number> {
  const names = Object.keys(rounds[0] ?? {}).filter((name): name is VariantName => isVariant(name) && name !== 'bare')
  return Object.fromEntries(names.map((name) => [name, Math.round((ratio(rounds, name, fullCost) ?? 0) * 100) / 100]))
}

/** A sentence for each variant that costs more than the kept ratio allows. */
export function regressions(rounds: Round[], kept: Record<string, number>): string[] {
  return Object.entries(ratios(rounds)).flatMap(([name, measured]) => {
    const before = kept[name]
    if (before === undefined) return [`${name} has no ratio in ratios.json: pnpm bench --quick --keep`]
    const limit = before * (1 + TOLERANCE)
    return measured > limit
      ? [`${name} costs ${measured} times bare, ${before} was kept and ${limit.toFixed(2)} is the limit`]
      : []
  })
}
