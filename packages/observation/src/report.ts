import type { Signal } from './delivery.ts'

/** Where the items of a signal go. */
export interface SignalReport {
  /** Paths, endpoints without secrets, or words such as `standard output`. Empty: nowhere. */
  to: readonly string[]
  /** What would send it further, or why it goes nowhere: names of variables and options. */
  hint?: string | undefined
}

/** What became of the items of one signal at one destination: `produced = delivered + dropped + waiting`. */
export interface DeliveryReport {
  readonly signal: Signal
  /** A path, an endpoint without secrets, or words such as `standard output`. */
  readonly to: string
  readonly produced: number
  readonly delivered: number
  /** By reason. */
  readonly dropped: Readonly<Record<string, number>>
  readonly waiting: number
  /** Why items were dropped last, and when, in milliseconds since the epoch. */
  readonly lastError?: { readonly reason: string; readonly timeMs: number } | undefined
}

/** Packages that calls are made by, in one state of instrumentation. */
export interface InstrumentationReport {
  /** `late`: loaded before its instrumentation; `preloadOnly`: seen only with the preload, which has not run. */
  readonly state: 'instrumented' | 'published' | 'waiting' | 'late' | 'unsupported' | 'preloadOnly' | 'copies'
  /** The state in words. */
  readonly what: string
  /** Their names, with versions where those are known. */
  readonly names: readonly string[]
}

/** What the parts say of their signals, each at the moment that it is asked. */
export interface Descriptions {
  add(signal: Signal, describe: () => SignalReport): void
  /** `undefined` for a signal that no part has described. */
  of(signal: Signal): SignalReport | undefined
  addDeliveries(describe: () => readonly DeliveryReport[]): void
  deliveries(): DeliveryReport[]
  /** Adds what of the service's own configuration a part has found and keeps. */
  keep(settings: readonly string[]): void
  readonly kept: readonly string[]
  /** What tracing has found at its start; empty before and without it. */
  instrumentation: readonly InstrumentationReport[]
}

export function createDescriptions(): Descriptions {
  const described = new Map<Signal, () => SignalReport>()
  const delivering: (() => readonly DeliveryReport[])[] = []
  const kept: string[] = []
  return {
    add: (signal, describe) => void described.set(signal, describe),
    of: (signal) => described.get(signal)?.(),
    addDeliveries: (describe) => void delivering.push(describe),
    deliveries: () => delivering.flatMap((describe) => describe()),
    keep: (settings) => void kept.push(...settings),
    kept,
    instrumentation: []
  }
}
