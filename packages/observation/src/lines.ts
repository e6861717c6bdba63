import type { JobObservation } from './job.ts'
import type { RequestObservation } from './request-observation.ts'

/** A line of the app's loggers, without its secrets. */
export interface LogLine {
  readonly level: string
  readonly message: string | undefined
  /** `undefined` where the observation says all of it, as for most canonical lines. */
  readonly fields: object | undefined
  /** `false` for a line below the level, which goes nowhere else unless `keep` writes it at the end of its request. */
  readonly isWritten: boolean
}

/** Receives lines, with the request or job that each belongs to. */
export interface LineListener {
  /** Whether lines of it are wanted: asked before anything is made for the listener. */
  wants(observation: RequestObservation | JobObservation | undefined): boolean
  line(observation: RequestObservation | JobObservation | undefined, line: LogLine): void
}
