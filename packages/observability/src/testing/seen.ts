/** A line as it was written. */
export interface SeenLine {
  /** `info` and its like, or what a formatter of the application's pino makes of it. */
  readonly level?: string | number
  /** ISO 8601. */
  readonly time?: string | number
  /** What has happened; `request completed` or `request aborted` for a request. */
  readonly msg?: string
  /** The name of the service. */
  readonly service?: string
  /** Of the service. */
  readonly version?: string
  /** Where it runs, such as `production`. */
  readonly environment?: string
  /** Of the request or job that the line belongs to. */
  readonly request_id?: string
  /** Of the request or job that the line belongs to. */
  readonly correlation_id?: string
  /** 32 hexadecimal digits. */
  readonly trace_id?: string
  /** 16 hexadecimal digits, of the span that was active. */
  readonly span_id?: string
  /** Of the request. */
  readonly method?: string
  /** Of the request, without its query. */
  readonly path?: string
  /** The pattern, or `unmatched`; on the canonical line. */
  readonly route?: string
  /** On the canonical line. */
  readonly status_code?: number
  /** On the canonical line of a request or job. */
  readonly duration_ms?: number
  /** To the first byte; on the canonical line. */
  readonly ttfb_ms?: number
  /** Of the body; on the canonical line. */
  readonly response_bytes?: number
  /** As `trustProxy` says; on the canonical line. */
  readonly client_ip?: string
  /** As the caller sent it, shortened; on the canonical line. */
  readonly user_agent?: string
  /** Whether the connection closed before the response was finished; on the canonical line. */
  readonly aborted?: boolean
  /** Calls of databases, where there were any; on the canonical line. */
  readonly db_calls?: number
  /** How long these took together, in milliseconds. */
  readonly db_ms?: number
  /** Of the event of its failure; on the canonical line. */
  readonly sentry_event_id?: string
  /** The name given to `observe`; on the line of a job. */
  readonly job?: string
  /** Counted from 1; on the line of a job. */
  readonly attempt?: number
  /** What was logged as an error, or has failed the request or job. */
  readonly err?: SeenError
  /** Fields of the application's. */
  readonly [field: string]: unknown
}

/** An error in a line. */
export interface SeenError {
  /** The name of its class. */
  readonly type?: string
  /** Without secrets. */
  readonly message?: string
  /** Without secrets. */
  readonly stack?: string
  /** Such as `ECONNREFUSED`. */
  readonly code?: unknown
  /** What has caused it, in the same shape. */
  readonly cause?: unknown
  /** More about it, such as the `errors` of an AggregateError. */
  readonly [field: string]: unknown
}

/** A span that was sampled and has ended, without its secrets, as it would be exported. */
export interface SeenSpan {
  /** Such as `GET /orders/:id`. */
  readonly name: string
  /** As OpenTelemetry has it. */
  readonly kind: 'internal' | 'server' | 'client' | 'producer' | 'consumer'
  /** 32 hexadecimal digits. */
  readonly traceId: string
  /** 16 hexadecimal digits. */
  readonly spanId: string
  /** 16 hexadecimal digits; `undefined` for the root of a trace. */
  readonly parentSpanId: string | undefined
  /** The name of the instrumentation. */
  readonly scope: string
  /** Milliseconds. */
  readonly durationMs: number
  /** By name, without secrets. */
  readonly attributes: Readonly<Record<string, unknown>>
  /** `unset` unless it has failed, or code has set it. */
  readonly status: 'unset' | 'ok' | 'error'
  /** Why it has failed; `undefined` where nothing says it. */
  readonly statusMessage: string | undefined
  /** What happened while it went on, such as an exception. */
  readonly events: readonly {
    /** `exception` and its like. */
    readonly name: string
    /** By name, without secrets. */
    readonly attributes: Readonly<Record<string, unknown>>
  }[]
  /** Spans of other traces that it has to do with. */
  readonly links: readonly {
    /** 32 hexadecimal digits. */
    readonly traceId: string
    /** 16 hexadecimal digits. */
    readonly spanId: string
  }[]
}

/** One series of a metric, and what was added to it since the app is observed, or `clear` was called. */
export interface SeenPoint {
  /** As on `/metrics`. */
  readonly name: string
  /** `counter`, `gauge` and its like, as on `/metrics`. */
  readonly type: string
  /** Their values, by name. */
  readonly labels: Readonly<Record<string, string>>
  /** What a counter has increased by, how many values a histogram has received, the value of a gauge. */
  readonly value: number
  /** Of the values that a histogram has received. */
  readonly sum?: number
}

/** An error event as Sentry's SDK sends it. */
export interface SeenEvent {
  /** 32 hexadecimal digits. */
  readonly event_id?: string
  /** `error`, and `fatal` for one that ends the process. */
  readonly level?: string
  /** Of an event without an exception. */
  readonly message?: string
  /** Method and route of the request, or the name of the job. */
  readonly transaction?: string
  /** Where the service runs. */
  readonly environment?: string
  /** `name@version` of the service. */
  readonly release?: string
  /** Its ids among them. */
  readonly tags?: Readonly<Record<string, unknown>>
  /** Who made the request, where that is known. */
  readonly user?: Readonly<Record<string, unknown>>
  /** What the application has set by `Sentry.setExtra`. */
  readonly extra?: Readonly<Record<string, unknown>>
  /** Method, URL and headers, without secrets. */
  readonly request?: Readonly<Record<string, unknown>>
  /** By name: `trace` has the ids of trace and span, `fields` what was added to the request or job. */
  readonly contexts?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** What happened before it, the oldest first. */
  readonly breadcrumbs?: readonly Readonly<Record<string, unknown>>[]
  /** What was thrown. */
  readonly exception?: {
    /** The causes first, and the error itself last. */
    readonly values?: readonly {
      /** The name of its class. */
      readonly type?: string
      /** Its message. */
      readonly value?: string
      /** More about it, such as its `stacktrace`. */
      readonly [field: string]: unknown
    }[]
  }
  /** @see https://develop.sentry.dev/sdk/data-model/event-payloads/ */
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
  /** All its events, in the order in which they were captured. */
  readonly events: readonly SeenEvent[]
}

/** What a request or job was, as all signals have it. */
interface SeenWork extends SeenSignals {
  /** As in the line and the span. */
  readonly requestId: string | undefined
  /** As in the line and the span. */
  readonly correlationId: string | undefined
  /** Milliseconds. */
  readonly durationMs: number
  /** What was thrown, sent as an error or given to `fail`. */
  readonly error: unknown
  /** Of few values: a code, the name of a class, or a status. */
  readonly errorType: string | undefined
  /** Those that were added to it. */
  readonly fields: Readonly<Record<string, unknown>>
}

/** A request that has ended. */
export interface SeenRequest extends SeenWork {
  /** Such as `GET`. */
  readonly method: string
  /** The route's pattern, or `unmatched`. */
  readonly route: string
  /** Without the query. */
  readonly path: string
  /** The one sent; 499 when the connection closed before. */
  readonly statusCode: number
  /** Whether the connection closed before the response was finished. */
  readonly aborted: boolean
}

/** An attempt of a job that has ended. */
export interface SeenJob extends SeenWork {
  /** The name given to `observe`. */
  readonly job: string
  /** Counted from 1; `undefined` where the options do not say it. */
  readonly attempt: number | undefined
  /** `failed`: its function threw, or something was given to `fail`. */
  readonly result: 'completed' | 'failed'
}

/** A function that says so, or what it must have: equal values, a part of an object, a regular expression for a text. */
export type Which<Item> = ((item: Item) => boolean) | { readonly [Name in keyof Item]?: unknown }

/** Options of a waiter. */
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
  /** Attempts that have ended, in that order, each with all its signals. */
  readonly jobs: readonly SeenJob[]
  /** All lines of the app's loggers, whether or not they belong to a request. */
  readonly lines: readonly SeenLine[]
  /** Those of the app's requests and jobs, and those that belong to none. */
  readonly spans: readonly SeenSpan[]
  /** Those of the app's requests and jobs, and those that belong to none. */
  readonly events: readonly SeenEvent[]
  /** What was added to counters and histograms, and the values of gauges. */
  points(): Promise<SeenPoint[]>
  /** Resolves with the first request that matches. */
  request(which?: Which<SeenRequest>, options?: WaitOptions): Promise<SeenRequest>
  /** Resolves with the first attempt of a job that matches. @param which a name, too */
  job(which?: string | Which<SeenJob>, options?: WaitOptions): Promise<SeenJob>
  /** Resolves with the first line that matches. @param which a message, too */
  line(which?: string | Which<SeenLine>, options?: WaitOptions): Promise<SeenLine>
  /** Resolves with the first span that matches. @param which a name, too */
  span(which?: string | Which<SeenSpan>, options?: WaitOptions): Promise<SeenSpan>
  /** Resolves with the first error event that matches. */
  event(which?: Which<SeenEvent>, options?: WaitOptions): Promise<SeenEvent>
  /** Resolves with the first series of the metric that has these labels, and something added to it unless it is a gauge. */
  point(name: string, labels?: Readonly<Record<string, string>>, options?: WaitOptions): Promise<SeenPoint>
  /** Forgets what was seen so far: points count from now on. */
  clear(): Promise<void>
  /** Sees nothing more, which the end of the app does too. What was seen stays. */
  stop(): void
}
