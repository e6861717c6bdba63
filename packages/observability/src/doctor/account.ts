import type { InstrumentationReport } from '@fastify-observability/observation/internal'
import type { Report } from '../report.ts'

/** What the process that loads a service says of it, once it is ready. */
export interface Account {
  readonly report: Report
  /** What of its own configuration stays, as pino and Fastify have it. */
  readonly kept: readonly string[]
  readonly instrumentation: readonly InstrumentationReport[]
  /** `undefined` where Fastify does not show it. */
  readonly isTrustingProxy: boolean | undefined
  /** Options that win over variables. */
  readonly endpoint: string | undefined
  readonly dsn: string | undefined
  /** Of OpenTelemetry and Sentry, as they are once the service is loaded. */
  readonly variables: Readonly<Record<string, string>>
}

/** How far it has come. */
export type Stage = 'imported' | 'started'

/** Why it cannot say more. */
export type Obstacle = 'import-failed' | 'no-app' | 'not-registered'

export type Message =
  | { readonly stage: Stage }
  | { readonly account: Account }
  | { readonly obstacle: Obstacle; readonly text: string }
