import { KEPT, type Kept } from './kept.ts'
import type { Job, Outcome } from './runner.ts'
import type { Configuration, Mode } from './tested.ts'

interface Difference {
  file: string
  test: string
  text: string
}

/** What became of the tests of a suite, and what of it differs from the plain run. */
export interface Comparison {
  record(jobs: Job[], outcomes: Outcome[]): void
  /** Whether a test of the file may differ in this mode, by the kept list. */
  isKept(file: string, mode: Mode): boolean
  /** The tests of the file that would hold up all others. */
  endless(file: string, mode: Mode): string[]
  differences(file: string, configuration: Configuration): Difference[]
  /** The differences that are not kept. */
  further(file: string, configuration: Configuration): Difference[]
  /** The tests that are kept and do not differ. */
  gone(file: string, configuration: Configuration): Kept[]
  /** The plain run's tests of the file. */
  plain(file: string): Outcome['results']
}

// A test more, in the comparison.
const ENDS = 'the process ends by itself'
const NOTHING: Outcome = { results: [], ended: true }

export function createComparison(suite: string): Comparison {
  const outcomes = new Map<string, Map<Mode, Outcome>>()
  const kept = KEPT.filter((entry) => entry.suite === suite)

  function keptOf(file: string, mode: Mode): Kept[] {
    return kept.filter((entry) => entry.file === file && entry.configurations.some((name) => name === mode))
  }

  function outcomeOf(file: string, mode: Mode): Outcome {
    return outcomes.get(file)?.get(mode) ?? NOTHING
  }

  function differences(file: string, configuration: Configuration): Difference[] {
    return compare(file, outcomeOf(file, 'plain'), outcomeOf(file, configuration))
  }

  return {
    record(jobs, finished) {
      for (const [index, { results, ended }] of finished.entries()) {
        const { files = [], mode = 'plain' } = jobs[index] ?? {}
        for (const file of files) {
          const modes = outcomes.get(file) ?? new Map<Mode, Outcome>()
          // Tests may be defined by a module that the file loads.
          const own = files.length === 1 ? results : results.filter((result) => result.file === file)
          outcomes.set(file, modes.set(mode, { results: own, ended }))
        }
      }
    },
    isKept: (file, mode) => keptOf(file, mode).length > 0,
    endless: (file, mode) => keptOf(file, mode).flatMap(({ test, endless }) => (endless ? test : [])),
    differences,
    further(file, configuration) {
      const names = keptOf(file, configuration).map(({ test }) => test)
      return differences(file, configuration).filter(({ test }) => !names.includes(test))
    },
    gone(file, configuration) {
      const names = differences(file, configuration).map(({ test }) => test)
      return keptOf(file, configuration).filter(({ test }) => !names.includes(test))
    },
    plain: (file) => outcomeOf(file, 'plain').results
  }
}

function compare(file: string, plain: Outcome, observed: Outcome): Difference[] {
  const before = new Map(plain.results.map((result) => [result.test, result]))
  const after = new Map(observed.results.map((result) => [result.test, result]))
  const differences = [...new Set([...before.keys(), ...after.keys()])].flatMap((test) => {
    const [was, is] = [before.get(test), after.get(test)]
    if (was?.status === is?.status) return []
    const error = (is ?? was)?.error ?? ''
    return {
      file,
      test,
      text: `${was?.status ?? 'absent'}, then ${is?.status ?? 'absent'} ${error.replaceAll(/\s+/g, ' ')}`
    }
  })
  const ends = { file, test: ENDS, text: observed.ended ? 'only with the suite' : 'only without the suite' }
  return plain.ended === observed.ended ? differences : [...differences, ends]
}
