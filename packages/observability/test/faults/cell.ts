import type { Setting, Stage } from './stage.ts'
import type { Traffic } from './traffic.ts'

/** What is accounted for. `lines` are all copies of a line: on standard output, in the file and over OTLP. */
export type Signal = 'spans' | 'records' | 'points' | 'lines' | 'events'

/** A fault, and what becomes of the service under load. */
export interface Cell {
  name: string
  /** What is expected beside the answers, the accounts and the bounds, which are the same for all cells. */
  expected: string
  /** A part of the machine that the fault needs, if that is missing. */
  missing?: string | false
  setting?: Setting | (() => Promise<Setting>)
  /**
   * Begins the fault.
   * @returns what ends it, and resolves with how often it has struck
   */
  begin(stage: Stage, traffic: Traffic): Promise<EndFault> | EndFault
  /** Signals that lose something by nature, and why. All others lose nothing. */
  loses?: Partial<Record<Signal, string>>
  /** As `loses`, where that depends on the moment. */
  mayLose?: Partial<Record<Signal, string>>
  /** How many the system may have taken at most for a reader who has never read them. */
  unread?: Partial<Record<'lines', number>>
  /** Checks of its own, after the end of the process: what is wrong. */
  problems?(stage: Stage, traffic: Traffic): string[]
  /** The fault ends the process, with this code. */
  endsWith?: number
  /** The fault is one that the driver itself has to notice, in these words. */
  isNoticedAs?: RegExp
  /** Requests that the driver does not make, so that only the service itself can count them. */
  hasOtherRequests?: boolean
  /** The fault stays, for some signal, so that nothing new of that comes any more. */
  isLasting?: boolean
}

type EndFault = () => Promise<number> | number
