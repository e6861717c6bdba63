import type { FastifyBaseLogger } from 'fastify'
import type { Observation, Outcome, Refusal } from './observation.ts'
import type { RequestObservation } from './request-observation.ts'
import { type Counts, countBy } from './series.ts'
import { atMostEvery } from './time/rate-limit.ts'
import { isThenable, watchResult } from './values/answer.ts'

/**
 * Sees every request of the app. `start` runs in the order of registration, `end` in the reverse order.
 * A throw or a rejection is counted and logged, and never reaches the request or another observer.
 */
export interface Observer<Observed = Observation> {
  name: string
  /** The request has arrived and no hook has run; nothing is sent yet. */
  start?(observation: Observed): void
  /** Runs the hooks and the handler inside a context of the observer's own. Must call `next` synchronously. */
  run?(observation: Observed, next: () => void): void
  /** Runs the `end` of all observers inside that context again. Must call `next` synchronously. */
  resume?(observation: Observed, next: () => void): void
  /**
   * The headers are about to be written: the last moment to set one. `written` is the last argument of `writeHead`, such
   * as the headers of Fastify's reply, or an object of the user's.
   */
  headers?(observation: Observed, written: unknown): void
  /** The response has closed. Runs in the request's own scope. */
  end?(observation: Observed, outcome: Outcome): void
  /** Bytes came that are no HTTP request, and Fastify has refused them. */
  malformed?(refusal: Refusal): void
}

/** An observer of the suite's own, which may complete what it observes. */
export type PartObserver = Observer<RequestObservation>

/** The observers of an app, called one after the other. */
export interface Observers {
  add(observer: PartObserver): void
  /** Counts an error of an observer, and logs it at most once a minute. */
  report(observer: string, error: unknown): void
  /** How many errors were reported, by observer. */
  readonly errors: Counts<'observer'>
  start(observation: RequestObservation): void
  run(observation: RequestObservation, next: () => void): void
  headers(observation: RequestObservation, written: unknown): void
  end(observation: RequestObservation, outcome: Outcome): void
  malformed(refusal: Refusal): void
}

interface Runner {
  name: string
  run(observation: RequestObservation, next: () => void): void
}

const MINUTE_MS = 60_000

/** @param log the app's logger at the moment, which plugins may replace. */
export function createObservers(log: () => FastifyBaseLogger): Observers {
  // By the moments that they receive, so that a request calls no observer in vain.
  const starting: PartObserver[] = []
  const addingHeaders: PartObserver[] = []
  const ending: PartObserver[] = []
  const refusing: PartObserver[] = []
  const runners: Runner[] = []
  const resumers: Runner[] = []
  const errors = countBy('observer')
  const mayLog = atMostEvery(MINUTE_MS)

  function report(observer: string, error: unknown): void {
    errors.add(observer)
    if (!mayLog()) return
    try {
      log().error({ err: error, observer }, 'an observer failed; the request is not affected')
    } catch {
      // A logger of the user's may fail too.
    }
  }

  function watch({ name }: Runner | PartObserver, result: unknown): void {
    // Asked first: nearly none returns anything, and what reports would be made for each.
    if (isThenable(result)) watchResult(result, (error) => report(name, error))
  }

  function runThrough(chain: Runner[], observation: RequestObservation, next: () => void, index = 0): void {
    const runner = chain[index]
    if (runner === undefined) {
      next()
      return
    }
    let entered = false
    const inner = (): void => {
      if (entered) return
      entered = true
      runThrough(chain, observation, next, index + 1)
    }
    try {
      watch(runner, runner.run(observation, inner))
    } catch (error) {
      // Once inside, it is the application's error and not the observer's.
      if (entered) throw error
      report(runner.name, error)
    }
    inner()
  }

  function endAll(observation: RequestObservation, outcome: Outcome): void {
    for (const observer of ending) {
      try {
        watch(observer, observer.end?.(observation, outcome))
      } catch (error) {
        report(observer.name, error)
      }
    }
  }

  return {
    errors,
    report,
    add(observer) {
      const { name, start, run, resume, headers, end, malformed } = observer
      if (start) starting.push(observer)
      if (headers) addingHeaders.push(observer)
      if (end) ending.unshift(observer)
      if (malformed) refusing.push(observer)
      if (run) runners.push({ name, run: run.bind(observer) })
      if (resume) resumers.push({ name, run: resume.bind(observer) })
    },
    start(observation) {
      for (const observer of starting) {
        try {
          watch(observer, observer.start?.(observation))
        } catch (error) {
          report(observer.name, error)
        }
      }
    },
    run(observation, next) {
      runThrough(runners, observation, next)
    },
    headers(observation, written) {
      for (const observer of addingHeaders) {
        try {
          watch(observer, observer.headers?.(observation, written))
        } catch (error) {
          report(observer.name, error)
        }
      }
    },
    end(observation, outcome) {
      if (resumers.length === 0) endAll(observation, outcome)
      else runThrough(resumers, observation, () => endAll(observation, outcome))
    },
    malformed(refusal) {
      for (const observer of refusing) {
        try {
          watch(observer, observer.malformed?.(refusal))
        } catch (error) {
          report(observer.name, error)
        }
      }
    }
  }
}
