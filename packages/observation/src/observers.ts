import type { FastifyBaseLogger } from 'fastify'
import { withDocs } from './docs.ts'
import type { JobObservation } from './job.ts'
import type { Observation, Outcome, Refusal } from './observation.ts'
import type { RequestObservation } from './request-observation.ts'
import { type Counts, countBy } from './series.ts'
import { atMostEvery } from './time/rate-limit.ts'
import { isThenable, watchResult } from './values/answer.ts'
import type { Job, JobOutcome } from './work.ts'

/** The moments that requests and jobs have in common. `Observed` is one of them, `Ended` its outcome. */
export interface WorkObserver<Observed, Ended> {
  /** For logs and `observability_observer_errors_total`. */
  name: string
  /** The work has begun: of a request no hook has run and nothing is sent yet. */
  start?(observation: Observed): void
  /** Runs the work, of a request the hooks and the handler, inside a context of the observer's own. Must call `next` synchronously. */
  run?(observation: Observed, next: () => void): void
  /** Runs the `end` of all observers inside that context again. Must call `next` synchronously. */
  resume?(observation: Observed, next: () => void): void
  /** The work has ended: of a request, the response has closed. Runs in the work's own scope. */
  end?(observation: Observed, outcome: Ended): void
}

/** Sees every job of the app, as {@link Observer} sees every request. */
export interface JobObserver<Observed = Job> extends WorkObserver<Observed, JobOutcome> {
  /** Tells it from an observer of requests. */
  kind: 'job'
}

/**
 * Sees every request of the app. `start` runs in the order of registration, `end` in the reverse order.
 * A throw or a rejection is counted and logged, and never reaches the request or another observer.
 */
export interface Observer<Observed = Observation> extends WorkObserver<Observed, Outcome> {
  /** What it observes. @default 'request' */
  kind?: 'request'
  /**
   * The headers are about to be written: the last moment to set one. `written` is the last argument of `writeHead`, such
   * as the headers of Fastify's reply, or an object of the user's.
   */
  headers?(observation: Observed, written: unknown): void
  /** Bytes came that are no HTTP request, and Fastify has refused them. */
  malformed?(refusal: Refusal): void
}

/** An observer of the suite's own, which may complete what it observes. */
export type PartObserver = Observer<RequestObservation> & Placed
export type PartJobObserver = JobObserver<JobObservation> & Placed

interface Placed {
  /** Whether its `end` is called before those of all others, or after them, whenever it was registered. */
  ends?: 'first' | 'last'
}

/** The observers of an app, called one after the other. */
export interface Observers extends Omit<Chain<RequestObservation, Outcome>, 'add'> {
  add(observer: PartObserver | PartJobObserver): void
  readonly jobs: Chain<JobObservation, JobOutcome>
  /** Counts an error of an observer, and logs it at most once a minute. */
  report(observer: string, error: unknown): void
  /** How many errors were reported, by observer. */
  readonly errors: Counts<'observer'>
  headers(observation: RequestObservation, written: unknown): void
  malformed(refusal: Refusal): void
}

/** Calls the observers of one kind of work. */
interface Chain<Observed, Ended> {
  add(observer: WorkObserver<Observed, Ended> & Placed): void
  start(observation: Observed): void
  run(observation: Observed, next: () => void): void
  end(observation: Observed, outcome: Ended): void
}

interface Runner<Observed> {
  name: string
  run(observation: Observed, next: () => void): void
}

type Report = (observer: string, error: unknown) => void

const MINUTE_MS = 60_000

function placeOf({ ends }: Placed): number {
  return ends === 'first' ? -1 : ends === 'last' ? 1 : 0
}

function watch(name: string, result: unknown, report: Report): void {
  // Asked first: nearly none returns anything, and what reports would be made for each.
  if (isThenable(result)) watchResult(result, (error) => report(name, error))
}

function createChain<Observed, Ended>(report: Report): Chain<Observed, Ended> {
  // By the moments that they receive, so that a request calls no observer in vain.
  const starting: WorkObserver<Observed, Ended>[] = []
  const ending: (WorkObserver<Observed, Ended> & Placed)[] = []
  const runners: Runner<Observed>[] = []
  const resumers: Runner<Observed>[] = []

  function runThrough(chain: Runner<Observed>[], observation: Observed, next: () => void, index = 0): void {
    const runner = chain[index]
    if (runner === undefined) {
      next()
      return
    }
    let entered = false
    let left = false
    const inner = (): void => {
      if (entered) return
      entered = true
      runThrough(chain, observation, next, index + 1)
      left = true
    }
    try {
      watch(runner.name, runner.run(observation, inner), report)
    } catch (error) {
      // What `next` has thrown is the application's error and not the observer's.
      if (entered && !left) throw error
      report(runner.name, error)
    }
    inner()
  }

  function endAll(observation: Observed, outcome: Ended): void {
    for (const observer of ending) {
      try {
        watch(observer.name, observer.end?.(observation, outcome), report)
      } catch (error) {
        report(observer.name, error)
      }
    }
  }

  return {
    add(observer) {
      const { name, start, run, resume, end } = observer
      if (start) starting.push(observer)
      if (end) {
        ending.unshift(observer)
        ending.sort((one, other) => placeOf(one) - placeOf(other))
      }
      if (run) runners.push({ name, run: run.bind(observer) })
      if (resume) resumers.push({ name, run: resume.bind(observer) })
    },
    start(observation) {
      for (const observer of starting) {
        try {
          watch(observer.name, observer.start?.(observation), report)
        } catch (error) {
          report(observer.name, error)
        }
      }
    },
    run(observation, next) {
      runThrough(runners, observation, next)
    },
    end(observation, outcome) {
      if (resumers.length === 0) endAll(observation, outcome)
      else runThrough(resumers, observation, () => endAll(observation, outcome))
    }
  }
}

/** @param log the app's logger at the moment, which plugins may replace. */
export function createObservers(log: () => FastifyBaseLogger): Observers {
  const addingHeaders: PartObserver[] = []
  const refusing: PartObserver[] = []
  const errors = countBy('observer')
  const mayLog = atMostEvery(MINUTE_MS)

  function report(observer: string, error: unknown): void {
    errors.add(observer)
    if (!mayLog()) return
    try {
      log().error(
        withDocs('functions-that-fail', { err: error, observer }),
        'an observer failed; what it observes is not affected'
      )
    } catch {
      // A logger of the user's may fail too.
    }
  }

  const requests = createChain<RequestObservation, Outcome>(report)
  const jobs = createChain<JobObservation, JobOutcome>(report)
  return {
    errors,
    report,
    jobs,
    add(observer) {
      if (observer.kind === 'job') {
        jobs.add(observer)
        return
      }
      requests.add(observer)
      if (observer.headers) addingHeaders.push(observer)
      if (observer.malformed) refusing.push(observer)
    },
    start: requests.start,
    run: requests.run,
    end: requests.end,
    headers(observation, written) {
      for (const observer of addingHeaders) {
        try {
          watch(observer.name, observer.headers?.(observation, written), report)
        } catch (error) {
          report(observer.name, error)
        }
      }
    },
    malformed(refusal) {
      for (const observer of refusing) {
        try {
          watch(observer.name, observer.malformed?.(refusal), report)
        } catch (error) {
          report(observer.name, error)
        }
      }
    }
  }
}
