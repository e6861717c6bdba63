import { FAULTS, type Fault } from './faults.ts'
import { REPOSITORY } from './manifest.ts'

/** What is looked at, in the order of the output. */
export type Check =
  | 'versions'
  | 'copies'
  | 'bundle'
  | 'service'
  | 'preload'
  | 'settings'
  | 'proxy'
  | 'endpoints'
  | 'sentry'

/** What one check has found. `wrong` makes the exit code 1, `note` does not. */
export interface Finding {
  readonly check: Check
  readonly state: 'fine' | 'note' | 'wrong'
  readonly text: string
  readonly fault?: Fault
  readonly remedy?: string
  /** The fault's section in the documentation. */
  readonly link?: string
}

const PAGE = `${REPOSITORY}/blob/main/docs/doctor.md`

export function fine(check: Check, text: string): Finding {
  return { check, state: 'fine', text }
}

export function wrong(check: Check, fault: Fault, text: string): Finding {
  return { check, state: 'wrong', text, fault, remedy: FAULTS[fault], link: `${PAGE}#${fault}` }
}

/** A fault that may be none: only whoever runs the service can tell. */
export function note(check: Check, fault: Fault, text: string): Finding {
  return { ...wrong(check, fault, text), state: 'note' }
}
