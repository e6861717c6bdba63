/** How many costs are looked at for whether they still fall, and by how much the lowest of them may be below those before. */
const LATEST = 3
const SETTLED = 0.98

/** Whether costs, in the order in which they were measured, have stopped falling. */
export function hasSettled(costs: readonly number[]): boolean {
  const before = costs.slice(0, -LATEST)
  return before.length > 0 && Math.min(...costs.slice(-LATEST)) >= SETTLED * Math.min(...before)
}
