import type { Signal } from './delivery.ts'

/** Where the items of a signal go. */
export interface SignalReport {
  /** Paths, endpoints without secrets, or words such as `standard output`. Empty: nowhere. */
  to: readonly string[]
  /** What would send it further, or why it goes nowhere: names of variables and options. */
  hint?: string | undefined
}

/** What the parts say of their signals, each at the moment that it is asked. */
export interface Descriptions {
  add(signal: Signal, describe: () => SignalReport): void
  /** `undefined` for a signal that no part has described. */
  of(signal: Signal): SignalReport | undefined
}

export function createDescriptions(): Descriptions {
  const described = new Map<Signal, () => SignalReport>()
  return {
    add: (signal, describe) => void described.set(signal, describe),
    of: (signal) => described.get(signal)?.()
  }
}
