import type { NodeClient } from '@sentry/node'
import type { WorkScopes } from './request-scopes.ts'
import type { SDK } from './sdk.ts'
import type { TraceRate } from './trace-rate.ts'

/** The SDK, once it is loaded, with a client: ours or the user's. */
export interface Live {
  readonly Sentry: SDK
  readonly client: NodeClient
  /** Whether the user has made it. */
  readonly isForeign: boolean
  /** Whether Sentry makes spans of its own, by our client. */
  readonly isTracing: boolean
  /** By which our client samples, `undefined` where a sampler of the user's decides. */
  readonly traceRate: TraceRate | undefined
  readonly scopes: WorkScopes
}
