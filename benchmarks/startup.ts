import { startServer } from './process.ts'
import { median } from './statistics.ts'
import type { Ends, VariantName } from './variants.ts'

export interface StartUp {
  what: string
  /** From the start of the process to listening. */
  milliseconds: number
}

const PRELOAD = 'fastify-observability/register'

/** Medians over the rounds, each of which starts every kind once. */
export async function startUps(ends: Ends, rounds: number): Promise<StartUp[]> {
  const kinds: { what: string; variant: VariantName; flags: string[] }[] = [
    { what: 'bare', variant: 'bare', flags: [] },
    { what: 'ours', variant: 'ours', flags: [] },
    { what: 'ours-sentry', variant: 'ours-sentry', flags: [] },
    { what: 'ours, with the preload', variant: 'ours', flags: ['--import', PRELOAD] },
    { what: 'hand-wired', variant: 'hand-wired', flags: [] }
  ]
  const times = kinds.map((): number[] => [])
  for (let round = 0; round < rounds; round++) {
    for (const [index, { variant, flags }] of kinds.entries()) {
      const startedAt = performance.now()
      const server = await startServer({ variant, ends, log: 'ignore', flags })
      times[index]?.push(performance.now() - startedAt)
      await server.stop()
    }
  }
  return kinds.map(({ what }, index) => ({ what, milliseconds: median(times[index] ?? []) }))
}
