import { createFieldRules, type FieldRules } from './fields.ts'
import { JobObservation } from './job.ts'
import type { Observers } from './observers.ts'
import { currentScope, runIn, type Scope } from './scope.ts'
import { within } from './time/deadline.ts'
import { elapsedMs } from './time/elapsed.ts'
import { monotonicMs } from './time/monotonic.ts'
import { errorName } from './values/error-name.ts'
import type { Job, JobOptions } from './work.ts'

/** What is called as a job. */
export type JobFunction<Result> = (job: Job) => Result | PromiseLike<Result>

/**
 * Runs `fn` as a job: one canonical line, one span, one duration, and one event for a last failure. Resolves with what `fn`
 * returns and rejects with what it throws.
 */
export interface Observe {
  <Result>(name: string, fn: JobFunction<Result>): Promise<Result>
  <Result>(name: string, options: JobOptions, fn: JobFunction<Result>): Promise<Result>
}

/** The jobs of an app. */
export interface Jobs {
  readonly observe: Observe
  /** Whether the job is one of these that goes on. */
  has(job: JobObservation): boolean
  /**
   * Resolves when no job goes on. Those that go on after `timeoutMs` are observed as failed by the shutdown.
   * @returns the names of these
   */
  drain(timeoutMs: number): Promise<string[]>
}

type Rest<Result> = [JobFunction<Result>] | [JobOptions, JobFunction<Result>]

// Of the apps that are open, in the order of their registration.
const open = new Set<Jobs>()

export function createJobs({ jobs: observers }: Pick<Observers, 'jobs'>, rules: FieldRules): Jobs {
  const running = new Map<JobObservation, Promise<unknown>>()

  async function observe<Result>(name: string, ...rest: Rest<Result>): Promise<Result> {
    const [options, fn] = rest.length === 1 ? [{}, rest[0]] : rest
    const job = new JobObservation(name, options, surrounding(), rules)
    const { promise: result, resolve } = Promise.withResolvers<Result>()
    running.set(job, result)
    observers.start(job)
    // What fn throws at once rejects the promise, too.
    runIn(job, observers.run, job, () => resolve((async () => fn(job))()))
    try {
      const value = await result
      end(job)
      return value
    } catch (error) {
      job.fail(error)
      end(job)
      throw error
    } finally {
      running.delete(job)
    }
  }

  function end(job: JobObservation): void {
    if (job.outcome) return
    const { failed, error, attempt = 1, attempts = attempt, startedAt } = job
    job.outcome = {
      result: failed ? 'failed' : 'completed',
      error,
      errorType: failed ? errorName(error) || 'Error' : undefined,
      isLast: !failed || attempt >= attempts,
      durationMs: elapsedMs(startedAt)
    }
    runIn(job, observers.end, job, job.outcome)
  }

  /** A job that closes its own app would wait for itself. */
  function others(): [JobObservation, Promise<unknown>][] {
    const current = currentScope()?.observation
    return [...running].filter(([job]) => job !== current)
  }

  async function drain(timeoutMs: number): Promise<string[]> {
    const deadline = monotonicMs() + timeoutMs
    for (let left = timeoutMs; left > 0 && others().length > 0; left = deadline - monotonicMs()) {
      const results = others().map(([, result]) => result)
      await within(left, Promise.allSettled(results))
    }
    const late = others().map(([job]) => job)
    for (const job of late) {
      job.fail(Object.assign(new Error('aborted: the service is shutting down'), { code: 'SHUTDOWN' }))
      end(job)
    }
    return late.map(({ job }) => job)
  }

  return { observe, has: (job) => running.has(job), drain }
}

/** The work that the calling code is part of. A timer that a request has left behind is not. */
function surrounding(): Scope['observation'] {
  const current = currentScope()?.observation
  return current?.outcome ? undefined : current
}

/** Has the module's own `observe` find the jobs of the app. @returns what has it forget them */
export function openJobs(jobs: Jobs): () => void {
  open.add(jobs)
  return () => void open.delete(jobs)
}

/**
 * Runs `fn` as a job of the app whose request or job it is called in, else of the app that was registered first of those that
 * are open. Without an app `fn` runs, and nothing observes it.
 */
export const observe: Observe = <Result>(name: string, ...rest: Rest<Result>): Promise<Result> => {
  const current = currentScope()?.observation
  const [first] = open
  const jobs = (current && Array.from(open).find((jobs) => isOf(current, jobs))) ?? first
  const [options, fn] = rest.length === 1 ? [{}, rest[0]] : rest
  if (jobs) return jobs.observe(name, options, fn)
  const job = new JobObservation(name, options, undefined, createFieldRules())
  return runIn(job, async () => fn(job))
}

function isOf(current: NonNullable<Scope['observation']>, jobs: Jobs): boolean {
  return 'job' in current ? jobs.has(current) : current.jobs === jobs
}
