import type { FastifyInstance } from 'fastify'
import { tellNow } from './ends.ts'
import type { Observation, Outcome } from './observation.ts'
import { createRedactor, type Redactor } from './redact.ts'

/**
 * Sees every request of the app. `start` runs in the order of registration, `end` in the reverse order.
 * A throw or a rejection is counted and logged, and never reaches the request or another observer.
 */
export interface Observer {
  name: string
  /** The request has arrived and no hook has run; nothing is sent yet. */
  start?(observation: Observation): void
  /** Runs the hooks and the handler inside a context of the observer's own. Must call `next` synchronously. */
  run?(observation: Observation, next: () => void): void
  /**
   * The headers are about to be written: the last moment to set one. `written` is the last argument of `writeHead`, such
   * as the headers of Fastify's reply, or an object of the user's.
   */
  headers?(observation: Observation, written: unknown): void
  /**
   * The raw response has closed. Of successes over a socket it hears a turn of the event loop later, of several that ended
   * in one turn together; before the process ends in any case.
   */
  end?(observation: Observation, outcome: Outcome): void
  /** Bytes came that are no HTTP request, and Fastify has refused them. */
  malformed?(refusal: Refusal): void
}

/** What Fastify's `clientErrorHandler` refuses, with the status that its default one sends. */
export interface Refusal {
  statusCode: 400 | 408 | 431
  error: Error
  /** The parser's code, such as `HPE_INVALID_METHOD`. */
  errorType: string
  clientAddress: string | undefined
}

/** Numbers that a part keeps, for a metrics part to show. */
export interface Series {
  name: string
  help: string
  type: 'counter' | 'gauge'
  labelNames: readonly string[]
  /** The values now, each with the values of its labels. */
  collect(): Iterable<readonly [labels: readonly string[], value: number]>
}

/** `app.observation`: where the parts meet. */
export interface ObservationRegistry {
  /** Adds an observer for the requests to come. */
  observe(observer: Observer): void
  /** Counts an error of an observer that happened outside its methods, and logs it at most once a minute. */
  report(observer: string, error: unknown): void
  /** Offers a series to whatever shows metrics. */
  publish(series: Series): void
  readonly published: readonly Series[]
  /** Names, in lower case, of reply headers that streamed, hijacked and early answers must carry too. */
  readonly answerHeaders: Set<string>
  /** Silences Fastify's own lines about requests, for a part that writes its own. */
  muteFastify(): void
  /** The rules of the app's logs, for all that leaves the process. Set by logging when its options add to the defaults. */
  redactor: Redactor
  /** Adds a way to hand on what a part still holds, within a time. */
  onFlush(flush: (timeoutMs: number) => Promise<unknown>): void
  /** Has every part hand on what it holds; resolves at the latest after `timeoutMs`, never rejects. */
  flush(timeoutMs: number): Promise<void>
  /** The process ends after the app has closed: parts leave open what the last line needs. */
  ending: boolean
}

/** The registry's inner side: what the observation calls. */
export interface Dispatch {
  start(observation: Observation): void
  run(observation: Observation, next: () => void): void
  headers(observation: Observation, written: unknown): void
  /** The observations have their outcomes. */
  end(observations: readonly Observation[]): void
  malformed(refusal: Refusal): void
}

const MINUTE_MS = 60_000

async function within(timeoutMs: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, timeoutMs)
  await Promise.race([work, promise])
  clearTimeout(timer)
}

/** A gate that opens at most once in `intervalMs`: for warnings that must not flood. */
export function atMostEvery(intervalMs: number): () => boolean {
  let last = Number.NEGATIVE_INFINITY
  return () => {
    const now = performance.now()
    if (now - last < intervalMs) return false
    last = now
    return true
  }
}

export function createRegistry(app: FastifyInstance, muteFastify: () => void): [ObservationRegistry, Dispatch] {
  // By what they hear of, for a request asks no observer in vain.
  const starting: Observer[] = []
  const addingHeaders: Observer[] = []
  let ending: Observer[] = []
  const refusing: Observer[] = []
  const runners: Required<Pick<Observer, 'name' | 'run'>>[] = []
  const published: Series[] = []
  const flushes: ((timeoutMs: number) => Promise<unknown>)[] = []
  const errors = new Map<string, number>()
  const mayLog = atMostEvery(MINUTE_MS)

  function report(observer: string, error: unknown): void {
    errors.set(observer, (errors.get(observer) ?? 0) + 1)
    if (mayLog()) app.log.error({ err: error, observer }, 'an observer failed; the request is not affected')
  }

  function watch(observer: Observer, result: unknown): void {
    if (result instanceof Promise) result.catch((error) => report(observer.name, error))
  }

  function run(observation: Observation, next: () => void, index = 0): void {
    const runner = runners[index]
    if (runner === undefined) {
      next()
      return
    }
    let entered = false
    const inner = (): void => {
      if (entered) return
      entered = true
      run(observation, next, index + 1)
    }
    try {
      runner.run(observation, inner)
    } catch (error) {
      // Once inside, it is the application's error and not the observer's.
      if (entered) throw error
      report(runner.name, error)
    }
    inner()
  }

  const registry: ObservationRegistry = {
    observe(observer) {
      if (observer.start) starting.push(observer)
      if (observer.headers) addingHeaders.push(observer)
      if (observer.end) ending = [observer, ...ending]
      if (observer.malformed) refusing.push(observer)
      if (observer.run) runners.push({ name: observer.name, run: observer.run.bind(observer) })
    },
    report,
    publish: (series) => void published.push(series),
    published,
    answerHeaders: new Set(),
    muteFastify,
    redactor: createRedactor(),
    onFlush: (flush) => void flushes.push(flush),
    async flush(timeoutMs) {
      tellNow()
      await within(timeoutMs, Promise.allSettled(flushes.map(async (flush) => flush(timeoutMs))))
    },
    ending: false
  }
  registry.publish({
    name: 'observability_observer_errors_total',
    help: 'Errors thrown by the observers of a request.',
    type: 'counter',
    labelNames: ['observer'],
    collect: () => Array.from(errors, ([observer, count]) => [[observer], count] as const)
  })
  const dispatch: Dispatch = {
    start(observation) {
      for (const observer of starting) {
        try {
          watch(observer, observer.start?.(observation))
        } catch (error) {
          report(observer.name, error)
        }
      }
    },
    run: (observation, next) => run(observation, next),
    headers(observation, written) {
      for (const observer of addingHeaders) {
        try {
          watch(observer, observer.headers?.(observation, written))
        } catch (error) {
          report(observer.name, error)
        }
      }
    },
    end(observations) {
      for (const observer of ending) {
        for (const observation of observations) {
          try {
            if (observation.outcome) watch(observer, observer.end?.(observation, observation.outcome))
          } catch (error) {
            report(observer.name, error)
          }
        }
      }
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
  return [registry, dispatch]
}
