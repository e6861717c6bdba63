import promises from 'node:timers/promises'

// Taken when this is loaded. Imports of node:timers are no safer than globals: the next require() of it anywhere has them
// follow what a test has replaced.

/** The timers of the process, which the fake ones of a test leave as they are. For deliveries, deadlines and what closes. */
export const { clearImmediate, clearInterval, clearTimeout, setImmediate, setInterval, setTimeout } = globalThis

/** The same as promises: resolves after so many milliseconds, and after the events that are due. */
export const { setTimeout: sleep, setImmediate: turn } = promises
