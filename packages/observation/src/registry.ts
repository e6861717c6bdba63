import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Claims, explainTaken } from './decorators.ts'
import { createHolders, type Holder, type Holders } from './delivery.ts'
import { withDocs } from './docs.ts'
import { createFeeds, type Feeds } from './feeds.ts'
import { type FieldRules, NO_FIELDS } from './fields.ts'
import type { Jobs } from './jobs.ts'
import type { LineListener } from './lines.ts'
import type { Observation } from './observation.ts'
import type { JobObserver, Observer, Observers, PartJobObserver, PartObserver } from './observers.ts'
import { createRedactor, type Redactor } from './redaction/redactor.ts'
import { createDescriptions, type Descriptions } from './report.ts'
import { OBSERVATION, type RequestObservation } from './request-observation.ts'
import type { Series } from './series.ts'

declare module 'fastify' {
  interface FastifyInstance {
    observation: ObservationRegistry
    [REGISTRY]: Registry
  }
  interface FastifyRequest {
    /** This request as all signals see it. */
    readonly observation: Observation
  }
}

/** `app.observation`: for observers of your own. */
export interface ObservationRegistry {
  /** Adds an observer for the requests, or those of `kind: 'job'` for the jobs, to come. */
  observe(observer: Observer | JobObserver): void
  /** Counts an error of an observer that happened outside its methods, and logs it at most once a minute. */
  report(observer: string, error: unknown): void
  /** Offers a series to whatever shows metrics. */
  publish<const Label extends string>(series: Series<Label>): void
}

/** Where the parts of the suite meet. */
export interface Registry extends Omit<ObservationRegistry, 'observe'>, Pick<Holders, 'flush' | 'flushSync'> {
  observe(observer: PartObserver | PartJobObserver): void
  readonly jobs: Jobs
  /** Called when the app begins to close, before its jobs are waited for. */
  readonly closing: (() => void)[]
  readonly published: readonly Series[]
  /** Names, in lower case, of reply headers that streamed, hijacked and early answers must carry too. */
  readonly answerHeaders: Set<string>
  /** Whether the part is new here; else one warning says that its registration is ignored. */
  admit(part: string): boolean
  /** What to say where another plugin makes a decorator that a part makes, by its name. */
  readonly claims: Claims
  /** Silences Fastify's own lines about requests, for a part that writes its own. */
  muteFastify(): void
  /** Whether `disableRequestLogging` asks for no lines about the request; `undefined` for one that Fastify did not make. */
  isSilenced(request: FastifyRequest | undefined): boolean
  /** The rules of the app's logs, for all that leaves the process. Set by logging when its options add to the defaults. */
  redactor: Redactor
  /** Keeps names for what a part itself says of requests: no added field can take them. */
  reserve(names: readonly string[]): void
  /** Adds a part that holds items before they leave the process. */
  onFlush(holder: Holder): void
  /** What the parts make, for tests that watch it. */
  readonly feeds: Feeds
  /** What the parts say of where their signals go. */
  readonly descriptions: Descriptions
  /** Receives the lines of the app's loggers, also those below the level. Set before logging is registered. */
  lineListener: LineListener | undefined
  /** Receives each request whose lines below the level are written by `keep`, before its own line. */
  onKept: ((observation: RequestObservation) => void) | undefined
  /** Holds each answer back until its end has been observed and this has settled, if it is set. */
  beforeAnswer: (() => Promise<unknown>) | undefined
  /** The process ends after the app has closed: parts leave open what the last line needs. */
  ending: boolean
}

/** For a request without a socket, which nobody observes. */
const UNOBSERVED: Observation = Object.freeze({
  method: '_OTHER',
  route: 'unmatched',
  path: '',
  requestId: undefined,
  correlationId: undefined,
  spanContext: undefined,
  clientAddress: undefined,
  request: undefined,
  reply: undefined,
  config: Object.freeze({}),
  outcome: undefined,
  fields: NO_FIELDS,
  add: () => undefined,
  fail: () => undefined
})

// The same for every copy of this package in a process.
const REGISTRY: unique symbol = Symbol.for('fastify-observability.registry')

export function decorateWithRegistry(
  app: FastifyInstance,
  observers: Observers,
  { mute, isSilenced }: { mute(): void; isSilenced: Registry['isSilenced'] },
  { reserved, dropped }: FieldRules,
  jobs: Jobs
): Registry {
  const published: Series[] = []
  const parts = new Set<string>()
  const { add: onFlush, flush, flushSync } = createHolders()
  const registry: Registry = {
    admit(part) {
      if (!parts.has(part)) return Boolean(parts.add(part))
      app.log.warn(
        withDocs('registered-late-or-twice'),
        `${part}: already registered here or by a parent instance; this registration is ignored`
      )
      return false
    },
    claims: new Map(),
    observe: observers.add,
    jobs,
    closing: [],
    report: observers.report,
    publish: (series) => void published.push(series),
    published,
    answerHeaders: new Set(),
    muteFastify: mute,
    isSilenced,
    redactor: createRedactor(),
    reserve(names) {
      for (const name of names) reserved.add(name)
    },
    onFlush,
    flush,
    flushSync,
    feeds: createFeeds(),
    descriptions: createDescriptions(),
    lineListener: undefined,
    onKept: undefined,
    beforeAnswer: undefined,
    ending: false
  }
  registry.publish({
    name: 'observability_observer_errors_total',
    help: 'Errors thrown by observers of requests.',
    type: 'counter',
    labelNames: ['observer'],
    collect: observers.errors.collect
  })
  registry.publish({
    name: 'observability_fields_dropped_total',
    help: 'Fields added to requests that were not kept.',
    type: 'counter',
    labelNames: ['reason'],
    collect: dropped.collect
  })
  const { observe, report, publish } = registry
  const face: ObservationRegistry = Object.freeze({ observe, report, publish })
  app.decorate('observation', face)
  app.decorate(REGISTRY, registry)
  explainTaken(app, registry.claims)
  app.decorateRequest('observation', {
    getter() {
      return this.raw[OBSERVATION] ?? UNOBSERVED
    }
  })
  return registry
}

/** The registry of an app that has registered the observation, itself or through a parent. */
export function registryOf(app: FastifyInstance): Registry {
  return app[REGISTRY]
}
