/** A line as it was written. */
export interface SeenLine {
  readonly level?: string | number
  /** ISO 8601. */
  readonly time?: string | number
  readonly msg?: string
  readonly service?: string
  readonly version?: string
  readonly environment?: string
  readonly request_id?: string
  readonly correlation_id?: string
  readonly trace_id?: string
  readonly span_id?: string
  readonly method?: string
  readonly path?: string
  readonly route?: string
  readonly status_code?: number
  readonly duration_ms?: number
  readonly ttfb_ms?: number
  readonly response_bytes?: number
  readonly client_ip?: string
  readonly user_agent?: string
  readonly aborted?: boolean
  readonly db_calls?: number
  readonly db_ms?: number
  readonly sentry_event_id?: string
  readonly job?: string
  readonly attempt?: number
  readonly err?: SeenError
  /** Fields of the application's. */
  readonly [field: string]: unknown
}

/** An error in a line. */
export interface SeenError {
  readonly type?: string
  readonly message?: string
  readonly stack?: string
  readonly code?: unknown
  readonly cause?: unknown
  readonly [field: string]: unknown
}

/** A span that was sampled and has ended, without its secrets, as it would be exported. */
export interface SeenSpan {
  readonly name: string
  readonly kind: 'internal' | 'server' | 'client' | 'producer' | 'consumer'
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  /** The name of the instrumentation. */
  readonly scope: string
  readonly durationMs: number
  readonly attributes: Readonly<Record<string, unknown>>
  readonly status: 'unset' | 'ok' | 'error'
  readonly statusMessage: string | undefined
  readonly events: readonly { readonly name: string; readonly attributes: Readonly<Record<string, unknown>> }[]
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[]
}

/** One series of a metric, and what was added to it since the app is observed, or `clear` was called. */
export interface SeenPoint {
  readonly name: string
  readonly type: string
  readonly labels: Readonly<Record<string, string>>
  /** What a counter has increased by, how many values a histogram has received, the value of a gauge. */
  readonly value: number
  /** Of the values that a histogram has received. */
  readonly sum?: number
}

/** An error event as Sentry's SDK sends it. */
export interface SeenEvent {
  readonly event_id?: string
  readonly level?: string
  readonly message?: string
  readonly transaction?: string
  readonly environment?: string
  readonly release?: string
  readonly tags?: Readonly<Record<string, unknown>>
  readonly user?: Readonly<Record<string, unknown>>
  readonly extra?: Readonly<Record<string, unknown>>
  readonly request?: Readonly<Record<string, unknown>>
  readonly contexts?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly breadcrumbs?: readonly Readonly<Record<string, unknown>>[]
  readonly exception?: {
    readonly values?: readonly { readonly type?: string; readonly value?: string; readonly [field: string]: unknown }[]
  }
  readonly [field: string]: unknown
}

/** What the parts have made of a request or job. A part that is not registered has made nothing. */
export interface SeenSignals {
  /** The canonical line. */
  readonly line: SeenLine | undefined
  /** All its lines, in the order in which they were written. */
  readonly lines: readonly SeenLine[]
  /** The server span of a request, the one span of a job. */
  readonly span: SeenSpan | undefined
  /** All its spans, in the order in which they ended. */
  readonly spans: readonly SeenSpan[]
  /** What its end was counted in, by the name of the metric; `undefined` without metrics. */
  readonly metrics: Readonly<Record<string, SeenPoint>> | undefined
  /** The event of its failure, or the first that its code has captured. */
  readonly event: SeenEvent | undefined
  readonly events: readonly SeenEvent[]
}

/** What a request or job was, as all signals have it. */
interface SeenWork extends SeenSignals {
  readonly requestId: string | undefined
  readonly correlationId: string | undefined
  readonly durationMs: number
  /** What was thrown, sent as an error or given to `fail`. */
  readonly error: unknown
  readonly errorType: string | undefined
  /** Those that were added to it. */
  readonly fields: Readonly<Record<string, unknown>>
}

/** A request that has ended. */
export interface SeenRequest extends SeenWork {
  readonly method: string
  /** The route's pattern, or `unmatched`. */
  readonly route: string
  readonly path: string
  readonly statusCode: number
  readonly aborted: boolean
}

/** An attempt of a job that has ended. */
export interface SeenJob extends SeenWork {
  readonly job: string
  readonly attempt: number | undefined
  readonly result: 'completed' | 'failed'
}

/** A function that says so, or what it must have: equal values, a part of an object, a regular expression for a text. */
export type Which<Item> = ((item: Item) => boolean) | { readonly [Name in keyof Item]?: unknown }

export interface WaitOptions {
  /** How long to wait, in milliseconds. @default that of `observe`, 5000 */
  timeoutMs?: number
}

/**
 * What is seen of an app. Each waiter resolves with the first that matches, seen already or to come, and rejects when its time
 * is up or the app has closed, with an error that says what was seen instead.
 */
export interface Seen {
  /** Those that have ended, in that order, each with all its signals. */
  readonly requests: readonly SeenRequest[]
  readonly jobs: readonly SeenJob[]
  /** All lines of the app's loggers, whether or not they belong to a request. */
  readonly lines: readonly SeenLine[]
  /** Those of the app's requests and jobs, and those that belong to none. */
  readonly spans: readonly SeenSpan[]
  /** Those of the app's requests and jobs, and those that belong to none. */
  readonly events: readonly SeenEvent[]
  /** What was added to counters and histograms, and the values of gauges. */
  points(): Promise<SeenPoint[]>
  request(which?: Which<SeenRequest>, options?: WaitOptions): Promise<SeenRequest>
  /** @param which a name, too */
  job(which?: string | Which<SeenJob>, options?: WaitOptions): Promise<SeenJob>
  /** @param which a message, too */
  line(which?: string | Which<SeenLine>, options?: WaitOptions): Promise<SeenLine>
  /** @param which a name, too */
  span(which?: string | Which<SeenSpan>, options?: WaitOptions): Promise<SeenSpan>
  event(which?: Which<SeenEvent>, options?: WaitOptions): Promise<SeenEvent>
  /** Resolves with the first series of the metric that has these labels, and something added to it unless it is a gauge. */
  point(name: string, labels?: Readonly<Record<string, string>>, options?: WaitOptions): Promise<SeenPoint>
  /** Forgets what was seen so far: points count from now on. */
  clear(): Promise<void>
  /** Sees nothing more, which the end of the app does too. What was seen stays. */
  stop(): void
}
