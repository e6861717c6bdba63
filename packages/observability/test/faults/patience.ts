import { setTimeout as wait } from 'node:timers/promises'

/** On a busy machine a fault takes longer to strike. */
const PATIENCE_MS = 60_000
const POLL_MS = 100

/** Resolves when the condition holds, or has not for a minute. */
export async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS
  while (!holds() && performance.now() < deadline) await wait(POLL_MS)
}
