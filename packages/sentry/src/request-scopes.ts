import { AsyncLocalStorage } from 'node:async_hooks'
import type { RequestObservation } from '@fastify-observability/observation/internal'
import type { SpanContext } from '@opentelemetry/api'
import type { Breadcrumb, NodeClient, Scope } from '@sentry/node'
import type { SDK } from './client.ts'
import { continueTrace, describe } from './failure.ts'

/** What the SDK keeps in its context, and reads at each of its calls. */
interface Scopes {
  readonly scope: Scope
  readonly isolationScope: Scope
}

type Storage = AsyncLocalStorage<unknown>

const MAX_BREADCRUMBS = 50

/**
 * The SDK's two scopes of one request, with its log lines as breadcrumbs. Cloning two scopes costs more than everything
 * else, and most requests need none: so this object stands in the SDK's context, and clones them when they are read.
 */
export class RequestScopes {
  private readonly sdk: SDK
  private readonly observation: RequestObservation
  private readonly storage: Storage | undefined
  private readonly outer: unknown
  private readonly spanContext: SpanContext | undefined
  private readonly sampleRand: number | undefined
  private readonly maxCrumbs: number
  private crumbs: Breadcrumb[] | undefined
  private own: Scopes | undefined

  constructor(
    sdk: SDK,
    observation: RequestObservation,
    maxCrumbs: number,
    storage: Storage | undefined,
    sampleRand: number | undefined
  ) {
    this.sdk = sdk
    this.observation = observation
    this.maxCrumbs = maxCrumbs
    this.storage = storage
    this.outer = storage?.getStore()
    this.spanContext = observation.spanContext
    this.sampleRand = sampleRand
    observation.onLine = (level, message) => this.line(level, message)
  }

  get scope(): Scope {
    return this.scopes().scope
  }

  get isolationScope(): Scope {
    return this.scopes().isolationScope
  }

  private line(level: string, message: string | undefined): void {
    if (message === undefined || this.maxCrumbs <= 0) return
    const crumb = crumbOf(level, message)
    if (this.own) {
      this.own.isolationScope.addBreadcrumb(crumb, this.maxCrumbs)
      return
    }
    this.crumbs ??= []
    if (this.crumbs.push(crumb) > this.maxCrumbs) this.crumbs.shift()
  }

  /** Runs the rest of the request in these scopes. */
  enter(next: () => void): void {
    if (this.storage) this.storage.run(this, next)
    else this.clone(next)
  }

  /** Runs the end of the request in these scopes. */
  resume(next: () => void): void {
    if (this.storage) this.storage.run(this, next)
    else this.sdk.withIsolationScope(this.isolationScope, () => this.sdk.withScope(this.scope, next))
  }

  private scopes(): Scopes {
    return this.own ?? (this.storage ? this.storage.run(this.outer, () => this.clone()) : this.clone())
  }

  private clone(next?: () => void): Scopes {
    return this.sdk.withIsolationScope((isolationScope) => {
      const own = { scope: this.sdk.getCurrentScope(), isolationScope }
      this.own = own
      this.prepare(own)
      next?.()
      return own
    })
  }

  private prepare({ scope, isolationScope }: Scopes): void {
    describe(isolationScope, this.observation)
    // Breadcrumbs from outside of the request do not belong to it.
    isolationScope.clearBreadcrumbs()
    for (const crumb of this.crumbs ?? []) isolationScope.addBreadcrumb(crumb, this.maxCrumbs)
    this.crumbs = undefined
    if (this.spanContext) continueTrace(scope, this.spanContext, this.sampleRand)
  }
}

/** A log line as a breadcrumb. */
export function crumbOf(level: string, message: string): Breadcrumb {
  return { category: 'log', level: levelOf(level), message, timestamp: Date.now() / 1_000 }
}

/** How many breadcrumbs an event has at most. */
export function maxCrumbsOf(client: NodeClient): number {
  return client.getOptions().maxBreadcrumbs ?? MAX_BREADCRUMBS
}

function levelOf(level: string): 'debug' | 'info' | 'warning' | 'error' | 'fatal' {
  if (level === 'trace' || level === 'debug') return 'debug'
  if (level === 'warn') return 'warning'
  return level === 'error' || level === 'fatal' ? level : 'info'
}

/** Makes the scopes of an app's requests. @param sampleRand what Sentry samples the request by, where it may trace. */
export function requestScopes(
  sdk: SDK,
  client: NodeClient
): (observation: RequestObservation, sampleRand?: number) => RequestScopes {
  const maxCrumbs = maxCrumbsOf(client)
  const storage = storageOf(sdk, client)
  return (observation, sampleRand) => new RequestScopes(sdk, observation, maxCrumbs, storage, sampleRand)
}

/** Where the SDK keeps them, `undefined` where a context of OpenTelemetry holds them or another version does otherwise. */
function storageOf(sdk: SDK, client: NodeClient): Storage | undefined {
  const { asyncLocalStorage, contextSymbol } = client.asyncLocalStorageLookup ?? {}
  if (!(asyncLocalStorage instanceof AsyncLocalStorage) || contextSymbol !== undefined) return undefined
  const tried: Scopes = { scope: new sdk.Scope(), isolationScope: new sdk.Scope() }
  const isIt = asyncLocalStorage.run(
    tried,
    () => sdk.getCurrentScope() === tried.scope && sdk.getIsolationScope() === tried.isolationScope
  )
  return isIt ? asyncLocalStorage : undefined
}
