import { createFieldRules, type FieldRules } from './fields.ts'
import { JobObservation, type JobSource, type Surroundings } from './job.ts'
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
  /** What jobs may take after the app has begun to close. Set by health. @default 10000 */
  timeoutMs: number
  /** A job whose code a library runs, outside of whatever the library was called in. */
  create(name: string, options: JobOptions, source: JobSource): JobObservation
  /** Begins the job, and calls `next` in its scope. */
  start(job: JobObservation, next: () => void): void
  /** Ends the job, unless it has ended. @param isLast whether no attempt follows that fails @default by `attempts` */
  end(job: JobObservation, isLast?: boolean): void
  /** Resolves when the jobs that go on now have ended, or their time is up. */
  settle(): Promise<void>
  /** Resolves when no job goes on: one whose time is up has failed by that. */
  close(): Promise<void>
}

type Rest<Result> = [JobFunction<Result>] | [JobOptions | undefined, JobFunction<Result>]

/** As long as requests may take at a shutdown. */
const TIMEOUT_MS = 10_000

// Of the apps that are open, in the order of their registration.
const open = new Set<Jobs>()

/** @param aborted receives the names of the jobs that the app's end did not wait for. */
export function createJobs(
  { jobs: observers }: Pick<Observers, 'jobs'>,
  rules: FieldRules,
  aborted: (names: string[]) => void
): Jobs {
  const running = new Map<JobObservation, PromiseWithResolvers<void>>()
  let deadline: number | undefined
  let closed: Promise<void> | undefined

  const jobs: Jobs = {
    timeoutMs: TIMEOUT_MS,
    create: (name, options, source) => new JobObservation(name, options, undefined, { jobs, rules, source }),
    async observe<Result>(name: string, ...rest: Rest<Result>): Promise<Result> {
      const [options, fn] = rest.length === 1 ? [undefined, rest[0]] : rest
      const job = new JobObservation(name, options, surrounding(), { jobs, rules })
      const { promise: result, resolve } = Promise.withResolvers<Result>()
      // What fn throws at once rejects the promise, too.
      start(job, () => resolve((async () => fn(job))()))
      try {
        const value = await result
        end(job)
        return value
      } catch (error) {
        job.fail(error)
        end(job)
        throw error
      }
    },
    start,
    end,
    settle,
    close: () => (closed ??= close())
  }

  function start(job: JobObservation, next: () => void): void {
    running.set(job, Promise.withResolvers())
    observers.start(job)
    runIn(job, observers.run, job, next)
  }

  function end(job: JobObservation, isLast = isLastOf(job)): void {
    if (job.outcome) return
    const { failed, error, startedAt, settledAt } = job
    job.outcome = {
      result: failed ? 'failed' : 'completed',
      error,
      errorType: failed ? errorName(error) || 'Error' : undefined,
      isLast: !failed || isLast,
      durationMs: settledAt === undefined ? elapsedMs(startedAt) : settledAt - startedAt
    }
    runIn(job, observers.end, job, job.outcome)
    running.get(job)?.resolve()
    running.delete(job)
  }

  /** Those that do not wait for the calling code, such as a job that closes its own app. */
  function others(): [JobObservation, PromiseWithResolvers<void>][] {
    const waiting = new Set(lineOf(currentScope()?.observation))
    return [...running].filter(([job]) => !waiting.has(job))
  }

  function leftMs(): number {
    deadline ??= monotonicMs() + jobs.timeoutMs
    return deadline - monotonicMs()
  }

  async function settle(): Promise<void> {
    await within(leftMs(), Promise.all(others().map(([, { promise }]) => promise)))
  }

  async function close(): Promise<void> {
    while (leftMs() > 0 && others().length > 0) await settle()
    const late = others().map(([job]) => job)
    for (const job of late) {
      job.fail(Object.assign(new Error('aborted: the service is shutting down'), { code: 'SHUTDOWN' }))
      end(job)
    }
    if (late.length > 0) aborted(late.map(({ job }) => job))
  }

  return jobs
}

function isLastOf({ attempt = 1, attempts = attempt }: JobObservation): boolean {
  return attempt >= attempts
}

/** The work, the work that it runs in, and so on. */
function* lineOf(work: Surroundings | undefined): Generator<Surroundings> {
  for (let one = work; one !== undefined; one = one.outer) yield one
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

/** The jobs of the app whose request or job the calling code belongs to, else of the app that was registered first. */
export function currentJobs(): Jobs | undefined {
  const current = currentScope()?.observation?.jobs
  const [first] = open
  return Array.from(open).find((jobs) => jobs === current) ?? first
}

/**
 * Runs `fn` as a job of the app whose request or job it is called in, else of the app that was registered first of those that
 * are open. Without an app `fn` runs, and nothing observes it.
 */
export const observe: Observe = <Result>(name: string, ...rest: Rest<Result>): Promise<Result> => {
  const [options, fn] = rest.length === 1 ? [undefined, rest[0]] : rest
  const jobs = currentJobs()
  if (jobs) return jobs.observe(name, options ?? {}, fn)
  const job = new JobObservation(name, options, undefined, { rules: createFieldRules() })
  return runIn(job, async () => fn(job))
}
