import { AsyncLocalStorage } from 'node:async_hooks'
import {
  currentScope,
  JobObservation,
  RequestObservation,
  runOutside
} from '@fastify-observability/observation/internal'
import type { Breadcrumb, NodeClient, Scope, Span } from '@sentry/node'
import { continueTrace, describe } from './failure.ts'
import type { SDK } from './sdk.ts'

export type Work = RequestObservation | JobObservation

/** What stands in the SDK's context, which it reads at each of its calls. */
class Scopes {
  readonly scope: Scope
  readonly isolationScope: Scope

  constructor(scope: Scope, isolationScope: Scope) {
    this.scope = scope
    this.isolationScope = isolationScope
  }
}

type Storage = AsyncLocalStorage<unknown>

/** What Sentry is to know of one request or job. Most have none. */
export class Memory {
  /** Its log lines, until there are scopes that keep them. */
  crumbs: Breadcrumb[] | undefined
  /** What the SDK was in when it came, such as a span around the start of the server. */
  outer: unknown
  /** The one that was sampled. */
  span: Span | undefined
  scopes: Scopes | undefined
}

/** The SDK's scopes of requests and jobs. */
export interface WorkScopes {
  /** Those of one, made now if nobody has asked for them. */
  of(work: Work): Scopes
  /** Notes what the SDK is in when one comes. */
  arrive(work: Work): void
  /** Calls the function in them. */
  run<Result>(work: Work, fn: () => Result): Result
  /** Whether code of a request is in them by itself. */
  readonly areFound: boolean
}

const MAX_BREADCRUMBS = 50

export function memoryOf(work: { sentryMemory: object | undefined }): Memory {
  const known = work.sentryMemory
  if (known instanceof Memory) return known
  const memory = new Memory()
  work.sentryMemory = memory
  return memory
}

/** Keeps a log line as a breadcrumb, and of them the last. */
export function keepCrumb(memory: Memory, level: string, message: string, maxCrumbs: number): void {
  if (maxCrumbs <= 0) return
  const crumb = crumbOf(level, message)
  if (memory.scopes) {
    memory.scopes.isolationScope.addBreadcrumb(crumb, maxCrumbs)
    return
  }
  memory.crumbs ??= []
  if (memory.crumbs.push(crumb) > maxCrumbs) memory.crumbs.shift()
}

/** How many breadcrumbs an event has at most. */
export function maxCrumbsOf({ maxBreadcrumbs = MAX_BREADCRUMBS }: { maxBreadcrumbs?: number | undefined }): number {
  return maxBreadcrumbs
}

/**
 * Cloning two scopes costs more than everything else, and most requests need none: they are cloned when the SDK, or an
 * event, reads them.
 * @param leastRand what Sentry samples by: what a request begins that was not sampled itself is above it.
 */
export function createScopes(sdk: SDK, client: NodeClient, leastRand: number): WorkScopes {
  const storage = storageOf(sdk, client)
  const maxCrumbs = maxCrumbsOf(client.getOptions())
  const entered = storage && findScopes(storage, of)

  function of(work: Work): Scopes {
    const memory = memoryOf(work)
    memory.scopes ??= create(work, memory)
    return memory.scopes
  }

  function create(work: Work, { crumbs = [], outer = parentOf(work) }: Memory): Scopes {
    const clone = (): Scopes =>
      sdk.withIsolationScope((isolationScope) => new Scopes(sdk.getCurrentScope(), isolationScope))
    const scopes = !storage ? clone() : runOutside(() => (outer === undefined ? clone() : storage.run(outer, clone)))
    const { scope, isolationScope } = scopes
    describe(isolationScope, work)
    // Breadcrumbs from outside of the request do not belong to it.
    isolationScope.clearBreadcrumbs()
    for (const crumb of crumbs) isolationScope.addBreadcrumb(crumb, maxCrumbs)
    const sampleRand = leastRand + (1 - leastRand) * Math.random()
    if (work.spanContext) continueTrace(scope, work.spanContext, sampleRand)
    else if (leastRand > 0) scope.setPropagationContext({ ...scope.getPropagationContext(), sampleRand })
    return scopes
  }

  /** The scopes of what a job runs in. */
  function parentOf(work: Work): Scopes | undefined {
    const outer = work instanceof JobObservation ? work.outer : undefined
    return outer instanceof RequestObservation || outer instanceof JobObservation ? of(outer) : undefined
  }

  return {
    of,
    areFound: storage !== undefined,
    arrive(work) {
      const outer = entered?.()
      if (outer !== undefined && !(outer instanceof Scopes)) memoryOf(work).outer = outer
    },
    run(work, fn) {
      const scopes = of(work)
      if (storage) return storage.run(scopes, fn)
      return sdk.withIsolationScope(scopes.isolationScope, () => sdk.withScope(scopes.scope, fn))
    }
  }
}

// By storage, because the SDK keeps its own for all clients of a process.
const found = new WeakMap<Storage, { inner: () => unknown; of: (work: Work) => Scopes }>()

/**
 * Has the SDK find the scopes of the request or job that the calling code belongs to, where it has entered none since. To
 * enter them for each request would cost all its asynchronous calls.
 * @returns what it has entered itself
 */
function findScopes(storage: Storage, of: (work: Work) => Scopes): () => unknown {
  const known = found.get(storage)
  if (known) {
    known.of = of
    return known.inner
  }
  const own = { inner: storage.getStore.bind(storage), of }
  found.set(storage, own)
  storage.getStore = () => {
    const inner = own.inner()
    const work = currentScope()?.observation
    // Node enters anew what it has been given here, after each change.
    if (!work) return inner instanceof Scopes ? undefined : inner
    const isOwn = inner !== undefined && !(inner instanceof Scopes) && inner !== memoryOf(work).outer
    return isOwn ? inner : own.of(work)
  }
  return own.inner
}

function crumbOf(level: string, message: string): Breadcrumb {
  return { category: 'log', level: levelOf(level), message, timestamp: Date.now() / 1_000 }
}

function levelOf(level: string): 'debug' | 'info' | 'warning' | 'error' | 'fatal' {
  if (level === 'trace' || level === 'debug') return 'debug'
  if (level === 'warn') return 'warning'
  return level === 'error' || level === 'fatal' ? level : 'info'
}

/** Where the SDK keeps them, `undefined` where a context of OpenTelemetry holds them or another version does otherwise. */
function storageOf(sdk: SDK, client: NodeClient): Storage | undefined {
  const { asyncLocalStorage, contextSymbol } = client.asyncLocalStorageLookup ?? {}
  if (!(asyncLocalStorage instanceof AsyncLocalStorage) || contextSymbol !== undefined) return undefined
  const tried = { scope: new sdk.Scope(), isolationScope: new sdk.Scope() }
  const isIt = asyncLocalStorage.run(
    tried,
    () => sdk.getCurrentScope() === tried.scope && sdk.getIsolationScope() === tried.isolationScope
  )
  return isIt ? asyncLocalStorage : undefined
}
